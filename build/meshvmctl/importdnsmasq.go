package main

import (
	"io"
	"net/netip"
	"strings"
)

// readDnsmasq takes the names of dnsmasq's configuration (dnsmasq(8)): address, host-record and cname. Options that give no names
// are nothing to it; those that give some of another kind are left out, and said.
func (i *imported) readDnsmasq(from io.Reader, file string) error {
	i.dnsmasq = true
	return lines(from, file, dnsmasqComment, func(at, line string) {
		option, value, _ := strings.Cut(line, "=")
		option, value = strings.TrimSpace(option), strings.TrimSpace(value)
		switch option {
		case "address":
			i.addressOption(at, value)
		case "host-record":
			i.hostRecord(at, value)
		case "cname":
			i.cname(at, value)
		case "no-hosts":
			i.noHosts = true
		case "server", "local":
			i.serverOption(at, option, value)
		case "addn-hosts", "hostsdir":
			i.leave(at, nil, "%s is in hosts files: import %s with --format hosts", option, value)
		case "conf-file", "conf-dir", "conf-script", "servers-file":
			i.leave(at, nil, "%s is in other files: import %s, too", option, value)
		case "dhcp-host", "dhcp-hostsfile", "dhcp-hostsdir", "dynamic-host", "interface-name", "synth-domain":
			i.leave(at, nil, "%s: names of what comes and goes are not taken over", option)
		case "expand-hosts", "domain":
			i.leave(at, nil, "%s completes names, which is left to the search list", option)
		case "alias", "bogus-nxdomain", "ignore-address":
			i.leave(at, nil, "%s changes answers, which a ServiceEntry cannot", option)
		case "ptr-record", "txt-record", "srv-host", "mx-host", "naptr-record", "caa-record", "dns-rr", "auth-zone":
			i.leave(at, nil, "%s: a ServiceEntry has addresses only", option)
		}
	})
}

// addressOption is /NAME/.../ADDRESS, for the names and all below them.
func (i *imported) addressOption(at, value string) {
	parts := strings.Split(value, "/")
	if len(parts) < 3 || parts[0] != "" {
		i.leave(at, nil, "address=%s: want /NAME/ADDRESS", value)
		return
	}
	names, last := parts[1:len(parts)-1], strings.TrimSpace(parts[len(parts)-1])
	if last == "" || last == "#" {
		i.leave(at, names, "address=%s says that there is nothing, which a ServiceEntry cannot", value)
		return
	}
	address, ok := i.address(at, names, last)
	if !ok {
		return
	}
	for _, name := range names {
		if name == "#" {
			i.leave(at, nil, "address=%s is of every name there is", value)
			continue
		}
		name = strings.TrimPrefix(name, ".")
		if below, found := strings.CutPrefix(name, "*."); found {
			i.add(at, "*."+below, address)
			continue
		}
		if host := clean(name); i.suits(at, host) {
			i.domains = with(i.domains, host, address)
			i.add(at, "*."+host, address)
		}
	}
}

// hostRecord is NAME,...[,IPv4][,IPv6][,TTL]. Of two addresses of a family the last counts, as it does for dnsmasq.
func (i *imported) hostRecord(at, value string) {
	var names []string
	var v4, v6 netip.Addr
	for field := range strings.SplitSeq(value, ",") {
		field = strings.TrimSpace(field)
		if address, err := netip.ParseAddr(field); err == nil {
			if address.Unmap().Is4() {
				v4 = address
			} else {
				v6 = address
			}
		} else if !isNumber(field) && field != "" {
			names = append(names, field)
		}
	}
	if len(names) == 0 || !v4.IsValid() && !v6.IsValid() {
		i.leave(at, names, "host-record=%s: want names and an address", value)
		return
	}
	for _, given := range []netip.Addr{v4, v6} {
		if !given.IsValid() {
			continue
		}
		address, ok := i.address(at, names, given.String())
		if !ok {
			continue
		}
		for _, name := range names {
			i.add(at, name, address)
		}
	}
}

// cname is NAME,...,TARGET[,TTL].
func (i *imported) cname(at, value string) {
	names := strings.Split(value, ",")
	if len(names) > 1 && isNumber(strings.TrimSpace(names[len(names)-1])) {
		names = names[:len(names)-1]
	}
	if len(names) < 2 {
		i.leave(at, names, "cname=%s has no target", value)
		return
	}
	for _, name := range names[:len(names)-1] {
		i.aliases = append(i.aliases, alias{at, clean(name), clean(names[len(names)-1])})
	}
}

// serverOption is [/NAME/.../][SERVER].
func (i *imported) serverOption(at, option, value string) {
	parts := strings.Split(value, "/")
	names := parts[1:max(1, len(parts)-1)]
	switch {
	case len(names) == 0:
		i.leave(at, nil, "%s=%s is for all other names: forward of the Corefile goes there", option, value)
	case strings.TrimSpace(parts[len(parts)-1]) == "":
		i.leave(at, names, "%s=%s keeps names from other servers: have CoreDNS do so, with a server block and template", option, value)
	default:
		i.leave(at, names, "%s=%s sends a domain to another server: have CoreDNS do so, with a server block and forward", option, value)
	}
}
