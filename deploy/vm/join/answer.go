package join

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/status"
)

// Answer is a name of the mesh that is found.
type Answer struct {
	Name      string
	Addresses []string
	// ByMachine: programs of the machine find it, not only who asks CoreDNS.
	ByMachine bool
}

// mostTried bounds how many names are tried.
const mostTried = 32

// findAnswer finds a name of the mesh that answers: of the mesh's hosts, or the API server's, which most namespaces see.
// With the redirect in force the machine has to find it too, or that is the error.
func (m Machine) findAnswer(ctx context.Context, report status.Report, redirected bool) (Answer, error) {
	if len(report.Servers) == 0 {
		return Answer{}, nil
	}
	var names []string
	for _, mirror := range report.Mirrors {
		for _, zone := range mirror.Zones {
			names = append(names, "kubernetes.default.svc."+strings.TrimSuffix(zone, "."))
		}
	}
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	hosts, err := status.Hosts(asking, m.path(status.DefaultSocket))
	cancel()
	if err != nil {
		return Answer{}, err
	}
	hosts = slices.DeleteFunc(hosts, func(host string) bool { return strings.HasPrefix(host, "*") })
	names = append(names, hosts...)
	for _, name := range names[:min(len(names), mostTried)] {
		found := Answer{Name: name}
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			found.Addresses = append(found.Addresses, ask(ctx, report.Servers[0].Address, name, kind)...)
		}
		if len(found.Addresses) == 0 {
			continue
		}
		if !redirected {
			return found, nil
		}
		said, err := m.run(ctx, "getent", "ahosts", name)
		if err != nil {
			return Answer{}, fmt.Errorf("CoreDNS answers %s with %s, but this machine does not find it: getent ahosts: %w%s\nlook at: meshvmctl redirect status",
				name, strings.Join(found.Addresses, " "), err, indent(said))
		}
		found.ByMachine = true
		return found, nil
	}
	return Answer{}, nil
}

// ask asks a server for the addresses of a name. None: there are none, or it does not answer.
func ask(ctx context.Context, server, name string, kind uint16) []string {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	answer, _, err := (&dns.Client{Timeout: 2 * time.Second}).ExchangeContext(ctx, question, server)
	if err != nil {
		return nil
	}
	var addresses []string
	for _, record := range answer.Answer {
		switch r := record.(type) {
		case *dns.A:
			addresses = append(addresses, r.A.String())
		case *dns.AAAA:
			addresses = append(addresses, r.AAAA.String())
		}
	}
	return addresses
}
