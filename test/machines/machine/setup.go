package machine

// Release is a release of Debian.
type Release string

// Releases.
const (
	Bookworm Release = "bookworm" // systemd 252
	Forky    Release = "forky"    // systemd 262
)

// Setup is a way in which a machine resolves names.
type Setup struct {
	// Name is a word: it names tests and folders.
	Name string
	// Says describes it in a line.
	Says    string
	Release Release
	// Packages are installed beside those of every machine.
	Packages []string
	// Script makes the rest of it, in the root as it is after the packages.
	Script string
	// Bound: /etc/resolv.conf is a file of the host's, mounted, as a container has it.
	Bound bool
	// Mode is how meshvm is expected to redirect it.
	Mode string
}

// dhclient brings eth0 up as Debian's installer sets it up.
const dhclient = `
mkdir -p /etc/network
printf 'auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n' >/etc/network/interfaces
`

// networkd brings eth0 up with systemd-networkd.
const networkd = `
printf '[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\nLLMNR=no\n\n[DHCPv4]\nUseDomains=yes\n' >/etc/systemd/network/10-eth0.network
systemctl enable systemd-networkd.service systemd-resolved.service 2>/dev/null
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
`

// fixed brings eth0 up with an address that nobody hands out, so that nobody touches resolv.conf either.
const fixed = `
mkdir -p /etc/network
printf 'auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n\taddress 10.77.0.50/24\n\tgateway 10.77.0.1\n' >/etc/network/interfaces
printf '# Written by hand.\nsearch corp.example\nnameserver 10.77.0.1 # the router\noptions timeout:2 attempts:3\n' >/etc/resolv.conf
`

// RPM is a machine that installs the package with rpm. Its dependencies are Debian's, so that rpm is not to ask for them.
func RPM() Setup {
	return Setup{Name: "rpm", Says: "rpm, on Debian", Release: Bookworm, Packages: []string{"ifupdown", "rpm"}, Script: fixed, Mode: "direct"}
}

// All are the setups that there are roots of.
func All() []Setup { return append(Setups(), RPM()) }

// Setups are those of the issue.
func Setups() []Setup {
	return []Setup{
		{Name: "dhclient", Says: "plain resolv.conf, written by dhclient (ifupdown)", Release: Bookworm,
			Packages: []string{"ifupdown", "isc-dhcp-client"}, Script: dhclient, Mode: "direct"},
		{Name: "static", Says: "plain resolv.conf, written by hand", Release: Bookworm,
			Packages: []string{"ifupdown"}, Script: fixed, Mode: "direct"},
		{Name: "bound", Says: "resolv.conf mounted from outside", Release: Bookworm,
			Packages: []string{"ifupdown"}, Script: fixed, Bound: true, Mode: "direct"},
		{Name: "resolvconf", Says: "Debian's resolvconf, dhclient", Release: Bookworm,
			Packages: []string{"resolvconf", "ifupdown", "isc-dhcp-client"}, Script: dhclient, Mode: "resolvconf"},
		{Name: "openresolv", Says: "openresolv, dhclient", Release: Bookworm,
			Packages: []string{"openresolv", "ifupdown", "isc-dhcp-client"}, Script: dhclient, Mode: "openresolv"},
		{Name: "networkmanager", Says: "NetworkManager", Release: Bookworm,
			Packages: []string{"network-manager"}, Script: `
rm -f /etc/resolv.conf
printf '[device-eth0]\nmatch-device=interface-name:eth0\nmanaged=1\n' >/etc/NetworkManager/conf.d/eth0.conf
printf '[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=disabled\n' >/etc/NetworkManager/system-connections/eth0.nmconnection
chmod 600 /etc/NetworkManager/system-connections/eth0.nmconnection
`, Mode: "networkmanager"},
		{Name: "resolved", Says: "systemd-resolved 252, networkd", Release: Bookworm,
			Packages: []string{"systemd-resolved", "libnss-resolve"}, Script: networkd, Mode: "resolved"},
		{Name: "delegate", Says: "systemd-resolved 258 or later, networkd", Release: Forky,
			Packages: []string{"systemd-resolved", "libnss-resolve"}, Script: networkd, Mode: "delegate"},
	}
}
