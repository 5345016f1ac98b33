// Package resolvconf reads resolv.conf(5): whom the C library, musl and Go ask for names. It is more tolerant than they are, since
// what it is read for is to give a machine's resolvers back to it.
package resolvconf

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// File is what a resolv.conf says.
type File struct {
	// Servers are all that it names, in their order, more than the three that libraries ask. What is no address is nobody's server.
	Servers []netip.Addr
	// Search is that of its last line search or domain, each domain once, in lower case and without dots around it.
	Search []string
	// Searches: it has such a line, if only with the root. Else the C library searches the domain of the host's name.
	Searches bool
	// Options are those of all its lines.
	Options []string
}

// Parse reads a resolv.conf. Comments may also stand behind what a line says.
func Parse(content []byte) File {
	var f File
	for line := range strings.Lines(string(content)) {
		words := Words(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if server, err := netip.ParseAddr(words[1]); err == nil {
				f.Servers = append(f.Servers, server.Unmap())
			}
		case "search":
			f.Search, f.Searches = domains(words[1:]), true
		case "domain":
			f.Search, f.Searches = domains(words[1:2]), true
		case "options":
			f.Options = append(f.Options, words[1:]...)
		}
	}
	return f
}

// Words are those of a line up to a comment.
func Words(line string) []string {
	if comment := strings.IndexAny(line, "#;"); comment >= 0 {
		line = line[:comment]
	}
	return strings.Fields(line)
}

func domains(words []string) []string {
	var domains []string
	for _, domain := range words {
		if domain = strings.ToLower(strings.Trim(domain, ".")); domain != "" && !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	return domains
}

// mostNdots is the highest that the C library takes.
const mostNdots = 15

// Ndots is how many dots a name has to have for it to be asked for as it is before the search list is tried.
func (f File) Ndots() int {
	ndots := 1
	for _, option := range f.Options {
		if value, is := strings.CutPrefix(option, "ndots:"); is {
			if n, err := strconv.Atoi(value); err == nil && n >= 0 {
				ndots = min(n, mostNdots)
			}
		}
	}
	return ndots
}
