package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// imported is what was found in files: names with their addresses, and what cannot be taken over.
type imported struct {
	clusterDomain string
	// names are hosts of ServiceEntries, in lower case, wildcards among them.
	names   map[string][]netip.Addr
	aliases []alias
	// left is what was left out, each with file, line and reason.
	left []string
}

// alias is a name that stands for another one, which may come later.
type alias struct{ at, name, target string }

var (
	hostsComment = regexp.MustCompile(`#`)
	// dnsmasq has # in values: address=/#/192.0.2.1 is of every name.
	dnsmasqComment = regexp.MustCompile(`(^|\s)#`)
)

// maxImportedLine bounds a line. Those of people and of tools are far below.
const maxImportedLine = 1 << 20

// lines goes through a file, without comments, which begin as the pattern says, and what is empty.
func lines(from io.Reader, file string, comment *regexp.Regexp, take func(at, line string)) error {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, maxImportedLine)
	for number := 1; scanner.Scan(); number++ {
		line := scanner.Text()
		if begins := comment.FindStringIndex(line); begins != nil {
			line = line[:begins[0]]
		}
		if line = strings.TrimSpace(line); line != "" {
			take(fmt.Sprintf("%s:%d", file, number), line)
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

func (i *imported) leave(at, reason string, args ...any) {
	said := at + ": left out: " + fmt.Sprintf(reason, args...)
	if len(i.left) == 0 || i.left[len(i.left)-1] != said { // A name with two addresses is left out once.
		i.left = append(i.left, said)
	}
}

// readHosts takes the names of a hosts file: an address, and names for it (hosts(5)).
func (i *imported) readHosts(from io.Reader, file string) error {
	return lines(from, file, hostsComment, func(at, line string) {
		fields := strings.Fields(line)
		address, ok := i.address(at, fields[0])
		if !ok {
			return
		}
		if len(fields) == 1 {
			i.leave(at, "%s has no name", fields[0])
		}
		for _, name := range fields[1:] {
			i.add(at, name, address)
		}
	})
}

// readDnsmasq takes the names of dnsmasq's configuration (dnsmasq(8)): address, host-record and cname. Options that give no names
// are nothing to it; those that give some of another kind are left out, and said.
func (i *imported) readDnsmasq(from io.Reader, file string) error {
	return lines(from, file, dnsmasqComment, func(at, line string) {
		option, value, _ := strings.Cut(line, "=")
		option, value = strings.TrimSpace(option), strings.TrimSpace(value)
		switch option {
		case "address":
			i.addressOption(at, value)
		case "host-record":
			i.hostRecord(at, value)
		case "cname":
			names := strings.Split(value, ",")
			if len(names) > 1 && isNumber(names[len(names)-1]) {
				names = names[:len(names)-1] // its TTL
			}
			if len(names) < 2 {
				i.leave(at, "%q has no target", line)
				return
			}
			for _, name := range names[:len(names)-1] {
				i.aliases = append(i.aliases, alias{at, clean(name), clean(names[len(names)-1])})
			}
		case "addn-hosts", "hostsdir", "conf-file", "conf-dir", "servers-file":
			i.leave(at, "%s is in other files: import %s too", option, value)
		case "server", "local", "rev-server":
			i.leave(at, "%s sends a domain to another server: have CoreDNS do so, with a server block and forward", option)
		case "ptr-record", "txt-record", "srv-host", "mx-host", "naptr-record", "caa-record", "dns-rr", "interface-name", "synth-domain", "auth-zone":
			i.leave(at, "%s: a ServiceEntry has addresses only", option)
		}
	})
}

// addressOption is /NAME/.../ADDRESS, for the names and all below them.
func (i *imported) addressOption(at, value string) {
	parts := strings.Split(value, "/")
	if len(parts) < 3 || parts[0] != "" {
		i.leave(at, "address=%s: want /NAME/ADDRESS", value)
		return
	}
	last := parts[len(parts)-1]
	if last == "" || last == "#" {
		i.leave(at, "address=%s says that there is nothing, which a ServiceEntry cannot", value)
		return
	}
	address, ok := i.address(at, last)
	if !ok {
		return
	}
	for _, name := range parts[1 : len(parts)-1] {
		if name == "#" {
			i.leave(at, "address=%s is of every name there is", value)
			continue
		}
		name = strings.TrimPrefix(name, ".")
		if below, found := strings.CutPrefix(name, "*."); found {
			i.add(at, "*."+below, address)
			continue
		}
		if i.add(at, name, address) {
			i.add(at, "*."+name, address)
		}
	}
}

// hostRecord is NAME,...[,IPv4][,IPv6][,TTL].
func (i *imported) hostRecord(at, value string) {
	var names []string
	var addresses []netip.Addr
	for field := range strings.SplitSeq(value, ",") {
		field = strings.TrimSpace(field)
		if _, err := netip.ParseAddr(field); err == nil {
			if address, ok := i.address(at, field); ok {
				addresses = append(addresses, address)
			}
		} else if !isNumber(field) && field != "" {
			names = append(names, field)
		}
	}
	if len(names) == 0 || len(addresses) == 0 {
		i.leave(at, "host-record=%s: want names and an address", value)
		return
	}
	for _, name := range names {
		for _, address := range addresses {
			i.add(at, name, address)
		}
	}
}

func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

func clean(name string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
}

// address is one that other machines can have.
func (i *imported) address(at, text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		i.leave(at, "%q is no address", text)
	case address.IsLoopback(), address.IsMulticast(), address.IsUnspecified(), address.IsLinkLocalUnicast(), address.Zone() != "":
		i.leave(at, "%s means something on one machine only", text)
	default:
		return address.Unmap(), true
	}
	return netip.Addr{}, false
}

// add takes a name over, and reports whether it can be.
func (i *imported) add(at, name string, address netip.Addr) bool {
	host := clean(name)
	if !i.suits(at, host) {
		return false
	}
	if i.names == nil {
		i.names = map[string][]netip.Addr{}
	}
	if !slices.Contains(i.names[host], address) {
		i.names[host] = append(i.names[host], address)
	}
	return true
}

// suits reports whether a name can be a host of a ServiceEntry.
func (i *imported) suits(at, host string) bool {
	bare := strings.TrimPrefix(host, "*.")
	switch {
	case !strings.Contains(bare, "."):
		i.leave(at, "%q is no full name: resolvers complete it by their search list", host)
	case len(validation.IsDNS1123Subdomain(bare)) > 0:
		i.leave(at, "%q cannot be a host of a ServiceEntry: want letters, digits, - and .", host)
	case bare == i.clusterDomain || strings.HasSuffix(bare, "."+i.clusterDomain):
		i.leave(at, "%q is below %s, where Services are", host, i.clusterDomain)
	default:
		return true
	}
	return false
}

// resolveAliases gives aliases the addresses of what they stand for. Some stand for other aliases.
func (i *imported) resolveAliases() {
	pending := i.aliases
	for progress := true; progress; {
		progress = false
		var later []alias
		for _, a := range pending {
			addresses, known := i.names[a.target]
			if !known {
				later = append(later, a)
				continue
			}
			progress = true
			for _, address := range addresses {
				if !i.add(a.at, a.name, address) {
					break
				}
			}
		}
		pending = later
	}
	for _, a := range pending {
		i.leave(a.at, "%q stands for %q, which has no address here", a.name, a.target)
	}
	i.aliases = nil
}
