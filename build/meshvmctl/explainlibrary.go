package main

import (
	"cmp"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/deploy/vm/redirect/nsswitch"
	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
	"github.com/meshvm/meshvm/plugin/status"
)

// libraryView is what a program's resolver reads on this machine. Later versions add fields and change none.
type libraryView struct {
	// Services are those of nsswitch.conf(5) that glibc asks for hosts, in their order.
	Services []string `json:"services"`
	// HostsFile: /etc/hosts has the name, so that nobody is asked.
	HostsFile bool `json:"hosts_file"`
	// Servers, Search and Ndots are of resolv.conf(5).
	Servers []string `json:"servers"`
	Search  []string `json:"search,omitempty"`
	Ndots   int      `json:"ndots"`
	// Names are what getaddrinfo(3) of glibc would ask for, in order, until one is answered. Musl are those of musl, where they differ.
	// Go's own resolver has those of glibc.
	Names []string `json:"names"`
	Musl  []string `json:"names_musl,omitempty"`
	// Notes are what else decides, a sentence each.
	Notes []string `json:"notes,omitempty"`
	// Unknown is what could not be read, a sentence each.
	Unknown []string `json:"unknown,omitempty"`
}

// maxNames bounds the names that a search list makes of one.
const maxNames = 10

// viewOf is what a resolver on the machine does with a name, which is fully qualified where it ends in a dot.
func viewOf(m redirect.Machine, name string) libraryView {
	var v libraryView
	read := func(path string) []byte {
		content, err := os.ReadFile(m.Path(path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			v.Unknown = append(v.Unknown, err.Error())
		}
		return content
	}
	v.Services = nsswitch.Hosts(read("/etc/nsswitch.conf"))
	v.HostsFile = inHosts(read("/etc/hosts"), name)
	file := resolvconf.Parse(read("/etc/resolv.conf"))
	v.Search, v.Ndots = file.Search, file.Ndots()
	for _, server := range file.Servers {
		v.Servers = append(v.Servers, server.String())
	}
	if len(v.Servers) == 0 {
		v.Servers = []string{"127.0.0.1"} // resolv.conf(5)
	}
	v.Names = searched(name, v.Search, v.Ndots, false)
	if musl := searched(name, v.Search, v.Ndots, true); !slices.Equal(musl, v.Names) {
		v.Musl = musl
	}
	v.Notes = notesOf(v)
	return v
}

// searched is the names that are asked for in order (resolv.conf(5), ndots). musl leaves the search list alone where a name has enough
// dots, glibc and Go come to it at last.
func searched(name string, search []string, ndots int, musl bool) []string {
	bare := dns.Fqdn(name)
	if strings.HasSuffix(name, ".") {
		return []string{bare}
	}
	var names []string
	for _, domain := range search {
		if domain = strings.Trim(domain, "."); domain == "" {
			continue
		}
		names = append(names, name+"."+domain+".")
	}
	names = names[:min(len(names), maxNames)]
	switch enough := strings.Count(name, ".") >= ndots; {
	case enough && musl:
		return []string{bare}
	case enough:
		return append([]string{bare}, names...)
	}
	return append(names, bare)
}

// notesOf is what else decides who is asked.
func notesOf(v libraryView) []string {
	var notes []string
	switch resolve, dns := slices.Index(v.Services, "resolve"), slices.Index(v.Services, "dns"); {
	case resolve >= 0 && (dns < 0 || resolve < dns):
		notes = append(notes, "glibc asks systemd-resolved, which has search domains and servers of its own: resolvectl query shows what it does",
			"programs of Go with cgo do as glibc; without cgo, and those with musl, read resolv.conf themselves")
	case dns < 0:
		notes = append(notes, "nsswitch.conf names no dns for hosts: programs with glibc ask no DNS server at all")
	}
	if i := slices.IndexFunc(v.Services, func(s string) bool { return strings.HasPrefix(s, "mdns") }); i >= 0 {
		notes = append(notes, "multicast DNS ("+v.Services[i]+") answers names below .local before DNS may be asked, cluster.local among them")
	}
	if len(v.Servers) > 1 {
		notes = append(notes, "glibc and Go ask the servers one after the other, musl all at once, and it takes the first answer")
	}
	return notes
}

// inHosts reports whether a hosts(5) has a name.
func inHosts(content []byte, name string) bool {
	name = strings.TrimSuffix(name, ".")
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 1 && slices.ContainsFunc(fields[1:], func(host string) bool { return strings.EqualFold(host, name) }) {
			return true
		}
	}
	return false
}

// reach says whether queries of programs come to CoreDNS, which listens at addresses.
func reach(m redirect.Machine, v libraryView, listening []status.Listener) redirectView {
	standing, err := redirect.Stand(m)
	if err != nil {
		return redirectView{Mode: "unknown", State: err.Error()}
	}
	asked := func(l status.Listener) bool {
		return slices.ContainsFunc(v.Servers, func(server string) bool { return net.JoinHostPort(server, "53") == l.Address })
	}
	switch {
	case !standing.Applied && slices.ContainsFunc(listening, asked):
		return redirectView{Mode: string(redirect.None), State: "nothing is redirected, but resolv.conf names CoreDNS itself", InForce: true, AllNames: true}
	case !standing.Applied:
		return redirectView{Mode: string(redirect.None), State: "nothing is redirected: resolv.conf names " + strings.Join(v.Servers, " ")}
	}
	view := redirectView{Mode: string(standing.Plan.Mode), InForce: standing.InForce, AllNames: standing.Plan.AllNames, Domains: standing.Plan.Domains}
	view.State = cmp.Or(withdrawnOf(standing), "in force")
	for _, upstream := range standing.Plan.Upstreams {
		view.Upstreams = append(view.Upstreams, upstream.String())
	}
	return view
}

// withdrawnOf is why a redirect is not in force. Empty: it is.
func withdrawnOf(s redirect.Standing) string {
	switch {
	case s.Withdrawn != "":
		return "withdrawn " + s.Withdrawn
	case s.Fight != "":
		return "fought over: " + s.Fight
	case len(s.Missing) > 0:
		return "not in force: " + strings.Join(s.Missing, "; ")
	}
	return ""
}

// redirectView is how names come to CoreDNS. Later versions add fields and change none.
type redirectView struct {
	Mode    string `json:"mode"`
	State   string `json:"state"`
	InForce bool   `json:"in_force"`
	// AllNames come to CoreDNS, else those in Domains.
	AllNames  bool     `json:"all_names"`
	Domains   []string `json:"domains,omitempty"`
	Upstreams []string `json:"upstreams,omitempty"`
}

// comes reports whether a name, fully qualified, comes to CoreDNS.
func (v redirectView) comes(name string) bool {
	return v.InForce && (v.AllNames || slices.ContainsFunc(v.Domains, func(domain string) bool {
		return dns.IsSubDomain(dns.Fqdn(strings.TrimPrefix(strings.TrimPrefix(domain, "~"), "*.")), name)
	}))
}
