package bootstrap

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"

	"github.com/meshvm/meshvm/plugin/watch"
)

// InstallDirectory is where VMs have their bundle, unless told otherwise.
const InstallDirectory = "/etc/meshvm"

// Machine is what the Corefile of a VM depends on.
type Machine struct {
	Account Account
	// Syncers are addresses, HOST:PORT. A Corefile needs one at least.
	Syncers []string
	// ServerName is what the syncer's certificate must name: a DNS name, or a SPIFFE ID. Empty: the host of its address.
	ServerName string
	// ClusterDomain is the DNS zone of the cluster's Services.
	ClusterDomain string
	// Node is the VM's name. Empty: its host name.
	Node string
	// Upstreams are the resolvers of all other names, IP or IP:PORT. Empty: the VM's own, which meshvmctl redirect
	// writes to a file there.
	Upstreams []string
	// Directory is where the bundle will be on the VM: an absolute path.
	Directory string
	// IstioCertificates has the VM prove who it is with the certificate of its Istio agent, and not with a token.
	IstioCertificates bool
	// IstioAuthority has it trust the authority of that certificate in place of ca.pem. It goes with IstioCertificates.
	IstioAuthority bool
}

// plainPath is a path that means the same in a Corefile, in a shell, and in a sentence.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._/+@:=-]*$`)

// Check reports what is wrong with a Machine, but for a syncer that is still to be found.
func (m Machine) Check() error {
	if err := m.Account.Check(); err != nil {
		return err
	}
	for i, address := range m.Syncers {
		if err := CheckAddress(address); err != nil {
			return fmt.Errorf("syncer %w", err)
		}
		if slices.Contains(m.Syncers[:i], address) {
			return fmt.Errorf("syncer %q is given twice", address)
		}
	}
	if watch.IsSPIFFEID(m.ServerName) {
		if err := checkSPIFFEID(m.ServerName); err != nil {
			return err
		}
	}
	for _, name := range []struct{ what, name string }{
		{"server name", m.ServerName}, {"cluster domain", m.ClusterDomain}, {"node", m.Node},
	} {
		if name.name == "" && name.what != "cluster domain" || name.name == m.ServerName && watch.IsSPIFFEID(name.name) {
			continue
		}
		if err := CheckDomain(name.name); err != nil {
			return fmt.Errorf("%s %w", name.what, err)
		}
	}
	for _, upstream := range m.Upstreams {
		if err := checkUpstream(upstream); err != nil {
			return err
		}
	}
	if !plainPath.MatchString(m.Directory) || path.Clean(m.Directory) != m.Directory || m.Directory == "/" {
		return fmt.Errorf("install directory %q: want an absolute path of letters, digits and . _ - + @ : =, such as %s", m.Directory, InstallDirectory)
	}
	if m.IstioAuthority && !m.IstioCertificates {
		return errors.New("the authority of Istio's certificates goes with these certificates only")
	}
	return nil
}

// plainID is a SPIFFE ID that means the same in a Corefile: one may have few other characters.
var plainID = regexp.MustCompile(`^spiffe://[A-Za-z0-9._/-]+$`)

func checkSPIFFEID(id string) error {
	if err := watch.CheckSPIFFEID(id); err != nil {
		return fmt.Errorf("server name %w", err)
	}
	if !plainID.MatchString(id) {
		return fmt.Errorf("server name %q: want a SPIFFE ID of letters, digits and . _ - /", id)
	}
	return nil
}

// checkUpstream refuses the VM's own server as well, which would ask itself for ever.
func checkUpstream(upstream string) error {
	const dnsPort = 53
	address, err := netip.ParseAddrPort(upstream)
	if err != nil {
		ip, err := netip.ParseAddr(upstream)
		if err != nil {
			return fmt.Errorf("upstream %q: want IP or IP:PORT", upstream)
		}
		address = netip.AddrPortFrom(ip, dnsPort)
	}
	switch ip := address.Addr().Unmap(); {
	case ip.IsUnspecified(), address.Port() == 0:
		return fmt.Errorf("upstream %q: nobody can be asked there", upstream)
	case ip == netip.AddrFrom4([4]byte{127, 0, 0, 1}) && address.Port() == dnsPort:
		return fmt.Errorf("upstream %q is the VM's own server, which would ask itself", upstream)
	}
	return nil
}

// Files of a bundle.
const (
	corefileName  = "Corefile"
	authorityName = "ca.pem"
	tokenName     = "token"
)

// file is where a file of the bundle will be on the VM.
func (m Machine) file(name string) string { return path.Join(m.Directory, name) }

// TokenFile is where the VM's token will be. Empty: it has none.
func (m Machine) TokenFile() string {
	if m.IstioCertificates {
		return ""
	}
	return m.file(tokenName)
}
