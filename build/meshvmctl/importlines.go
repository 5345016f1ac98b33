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
	names map[string][]netip.Addr
	// known are the addresses of every name, also of one that cannot be a host: aliases stand for such, too.
	known map[string][]netip.Addr
	// domains are the names themselves of dnsmasq's address=, which its other options override.
	domains map[string][]netip.Addr
	aliases []alias
	left    []omission
	// dnsmasq: its files were read; noHosts: one of them keeps it from answering from /etc/hosts.
	dnsmasq, noHosts bool
}

// alias is a name that stands for another one, which may come later.
type alias struct{ at, name, target string }

// omission is what was left out, with file, line and reason.
type omission struct {
	said string
	// names are those that it was about, which a wildcard that was taken over may answer now.
	names []string
}

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

// leave leaves out what is about some names, or about none that could be said.
func (i *imported) leave(at string, names []string, reason string, args ...any) {
	said := at + ": left out: " + fmt.Sprintf(reason, args...)
	if len(i.left) == 0 || i.left[len(i.left)-1].said != said { // A name with two addresses is left out once.
		i.left = append(i.left, omission{said, names})
	}
}

// readHosts takes the names of a hosts file: an address, and names for it (hosts(5)).
func (i *imported) readHosts(from io.Reader, file string) error {
	return lines(from, file, hostsComment, func(at, line string) {
		fields := strings.Fields(line)
		address, ok := i.address(at, fields[1:], fields[0])
		if !ok {
			return
		}
		if len(fields) == 1 {
			i.leave(at, nil, "%s has no name", fields[0])
		}
		for _, name := range fields[1:] {
			i.add(at, name, address)
		}
	})
}

func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// clean is a name as it is compared.
func clean(name string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
}

// address is one that other machines can have.
func (i *imported) address(at string, names []string, text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		i.leave(at, names, "%q is no address", text)
	case address.IsLoopback(), address.IsMulticast(), address.IsUnspecified(), address.IsLinkLocalUnicast(), address.Zone() != "":
		i.leave(at, names, "%s means something on one machine only", text)
	default:
		return address.Unmap(), true
	}
	return netip.Addr{}, false
}

// add takes a name over, if it can be.
func (i *imported) add(at, name string, address netip.Addr) {
	host := clean(name)
	i.known = with(i.known, host, address)
	if i.suits(at, host) {
		i.names = with(i.names, host, address)
	}
}

// with adds an address of a name, once.
func with(names map[string][]netip.Addr, host string, address netip.Addr) map[string][]netip.Addr {
	if names == nil {
		names = map[string][]netip.Addr{}
	}
	if !slices.Contains(names[host], address) {
		names[host] = append(names[host], address)
	}
	return names
}

// suits reports whether a name can be a host of a ServiceEntry, as Istio has it, too.
func (i *imported) suits(at, host string) bool {
	bare := strings.TrimPrefix(host, "*.")
	labels := strings.Split(bare, ".")
	switch {
	case len(labels) == 1:
		i.leave(at, []string{host}, "%q is no full name: resolvers complete it by their search list", host)
	case len(validation.IsDNS1123Subdomain(bare)) > 0, isNumber(labels[len(labels)-1]),
		slices.ContainsFunc(labels, func(label string) bool { return len(validation.IsDNS1123Label(label)) > 0 }):
		i.leave(at, []string{host}, "%q cannot be a host of a ServiceEntry: want labels of at most 63 letters, digits and -, and a last one that is no number", host)
	case bare == i.clusterDomain || strings.HasSuffix(bare, "."+i.clusterDomain):
		i.leave(at, nil, "%q is below %s, where Services are", host, i.clusterDomain)
	default:
		return true
	}
	return false
}
