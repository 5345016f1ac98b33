package redirect

import "net/netip"

// Facts are what Detect found out about a machine. A probe that failed is in Unknown, and what it would have found is left out.
type Facts struct {
	// Boot is this boot's id.
	Boot       string     `json:"boot,omitempty"`
	ResolvConf ResolvConf `json:"resolv_conf"`
	// NSS are the services that the C library asks for hosts, in their order.
	NSS []string `json:"nss,omitempty"`
	// Resolved is systemd-resolved, NetworkManager that.
	Resolved       Daemon `json:"resolved"`
	NetworkManager Daemon `json:"network_manager"`
	// Resolvconf is which program of that name there is: resolvconf, openresolv, or none.
	Resolvconf Mode `json:"resolvconf,omitempty"`
	// Upstreams are the machine's own resolvers as each owner knows them. They never lead back to CoreDNS.
	Upstreams map[Mode][]netip.AddrPort `json:"upstreams,omitempty"`
	// IstioCapture: Istio sends questions of this machine to its own proxy.
	IstioCapture bool `json:"istio_capture,omitempty"`
	// Unknown are probes that failed, a sentence each.
	Unknown []string `json:"unknown,omitempty"`
}

// ResolvConf is /etc/resolv.conf. Where it is ours by now, it is the one that was there before.
type ResolvConf struct {
	// Missing: there is none. Target is where it points as a symbolic link; empty: it is a file.
	Missing bool   `json:"missing,omitempty"`
	Target  string `json:"target,omitempty"`
	// Ours: it was written by this package.
	Ours bool `json:"ours,omitempty"`
	// Mounted: another file is mounted there, as in containers.
	Mounted bool         `json:"mounted,omitempty"`
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
	Options []string     `json:"options,omitempty"`
	// Writer is who says in it that he has written it: systemd-resolved, NetworkManager, resolvconf, or nobody.
	Writer string `json:"writer,omitempty"`
}

// Daemon is a program that may own resolution.
type Daemon struct {
	Running bool `json:"running"`
	// Unknown: whether it runs, or which version, could not be found out. Facts.Unknown says why.
	Unknown bool `json:"unknown,omitempty"`
	// Version is its major one. 0: not known.
	Version int `json:"version,omitempty"`
}

// stubs are where systemd-resolved listens.
var stubs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 53}), netip.AddrFrom4([4]byte{127, 0, 0, 54})}
