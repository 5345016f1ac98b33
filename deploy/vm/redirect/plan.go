package redirect

import "net/netip"

// Mode is a way to take over resolution, named after who owns it.
type Mode string

// Modes, in the order in which they are preferred.
const (
	// Delegate: systemd-resolved 258 or later, by a file in dns-delegate.d. Split: only the mesh's domains come here.
	Delegate Mode = "delegate"
	// Resolved: systemd-resolved 246 to 257, by a global drop-in. The mesh's domains come here, others may too.
	Resolved Mode = "resolved"
	// NetworkManager writes /etc/resolv.conf, by a file in its conf.d.
	NetworkManager Mode = "networkmanager"
	// Resolvconf is Debian's resolvconf.
	Resolvconf Mode = "resolvconf"
	// Openresolv is the other resolvconf.
	Openresolv Mode = "openresolv"
	// Direct: /etc/resolv.conf itself.
	Direct Mode = "direct"
	// None: nothing can be done, or nothing is wanted.
	None Mode = "none"
)

// Wish is what the operator and the mesh want.
type Wish struct {
	// Mode is asked for. Empty: the best is chosen.
	Mode Mode
	// AllNames sends every name to CoreDNS, also where only the mesh's domains would go there.
	AllNames bool
	// Transparent adds nftables rules for programs that ask a resolver of their own.
	Transparent bool
	// Server is where CoreDNS listens.
	Server netip.AddrPort
	// Server6 is where it listens by IPv6 besides. Not valid: nowhere.
	Server6 netip.AddrPort
	// Zones are the mesh's own, such as cluster.local. No dot at the end.
	Zones []string
	// Hosts are those of the mesh outside its zones, such as payments.example.com. No dot at the end; *. stands before a suffix.
	Hosts []string
	// Namespace is the machine's in the mesh. Empty: none.
	Namespace string
}

// Wished is what the operator asked for, as far as it is no matter of the mesh.
type Wished struct {
	Mode        Mode `json:"mode,omitempty"`
	AllNames    bool `json:"all_names,omitempty"`
	Transparent bool `json:"transparent,omitempty"`
}

// Plan is what Apply would do, and why. It is made by Decide.
type Plan struct {
	Mode Mode `json:"mode"`
	// Wished is what was asked for. Watch goes on by it.
	Wished Wished `json:"wished,omitzero"`
	// Why says in a sentence why this mode, Rejected why not the others that were looked at.
	Why      string      `json:"why"`
	Rejected []Rejection `json:"rejected,omitempty"`
	// Server is where CoreDNS listens.
	Server netip.AddrPort `json:"server"`
	// Server6 is where it listens by IPv6 besides, for Transparent.
	Server6 netip.AddrPort `json:"server6,omitzero"`
	// AllNames: every name goes to CoreDNS. Else Domains only, and Missed are hosts of the mesh that would not.
	AllNames bool     `json:"all_names"`
	Domains  []string `json:"domains,omitempty"`
	// Zones are the mesh's own, which CoreDNS is asked for before it is trusted with others.
	Zones  []string `json:"zones,omitempty"`
	Missed []string `json:"missed,omitempty"`
	// Search is the search list as it will be.
	Search []string `json:"search,omitempty"`
	// Upstreams are the machine's own resolvers.
	Upstreams   []netip.AddrPort `json:"upstreams,omitempty"`
	Transparent bool             `json:"transparent,omitempty"`
	// Warnings are what the operator should know, a sentence each.
	Warnings []string `json:"warnings,omitempty"`
}

// Rejection is a mode that was not chosen.
type Rejection struct {
	Mode Mode   `json:"mode"`
	Why  string `json:"why"`
}
