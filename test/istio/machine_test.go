package istio

import (
	"cmp"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// absent is what is said of a name that is not the mesh's: Istio's agent and meshvm let others answer it, or,
// in the cluster's own zone, meshvm says that it does not exist.
const absent = "absent"

// machine is a CoreDNS with meshvm as it runs on a VM of one namespace.
type machine struct {
	address string
	client  *dns.Client
}

// newMachine starts it, and returns when it has the registry.
func newMachine(t *testing.T, namespace, syncer string) *machine {
	t.Helper()
	m := &machine{address: programs.FreeAddress(t), client: &dns.Client{Timeout: 10 * time.Second}}
	host, port, err := net.SplitHostPort(m.address)
	check(t, err)
	programs.Serve(t, fmt.Sprintf(`.:%s {
    bind %s
    meshvm {
        syncer %s
        insecure
        namespace %s
        snapshot %s
    }
    forward . %s
}
`, port, host, syncer, namespace, filepath.Join(t.TempDir(), "snapshot"), programs.Upstream(t)))
	await(t, "the registry reaches a VM of "+namespace, func() error {
		reply, err := m.ask("kubernetes.default.svc.cluster.local.", dns.TypeA)
		if err == nil && len(reply.Answer) == 0 {
			err = fmt.Errorf("got %s without an address", dns.RcodeToString[reply.Rcode])
		}
		return err
	})
	return m
}

func (m *machine) ask(name string, qtype uint16) (*dns.Msg, error) {
	reply, _, err := m.client.Exchange(new(dns.Msg).SetQuestion(name, qtype), m.address)
	return reply, err
}

// resolve is what a program on the VM gets for a name: its addresses of both families, sorted, or absent.
func (m *machine) resolve(t *testing.T, name string) string {
	t.Helper()
	var addresses []string
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		reply, err := m.ask(dns.Fqdn(name), qtype)
		check(t, err)
		if reply.Rcode == dns.RcodeNameError {
			return absent
		}
		if reply.Rcode != dns.RcodeSuccess {
			return dns.RcodeToString[reply.Rcode]
		}
		for _, record := range reply.Answer {
			switch record := record.(type) {
			case *dns.A:
				if record.A.String() == programs.Outside {
					return absent
				}
				addresses = append(addresses, record.A.String())
			case *dns.AAAA:
				addresses = append(addresses, record.AAAA.String())
			case *dns.CNAME:
				addresses = append(addresses, record.Target)
			}
		}
	}
	return join(addresses)
}

// join writes a set of addresses down.
func join(addresses []string) string {
	slices.Sort(addresses)
	return strings.Join(slices.Compact(addresses), " ")
}

// lookup is what Istio's agent answers for a name out of its table: the name itself, else the longest wildcard.
func lookup(table map[string][]string, name string) string {
	if addresses, there := table[name]; there {
		return cmp.Or(join(slices.Clone(addresses)), absent)
	}
	for rest := name; ; {
		_, parent, cut := strings.Cut(rest, ".")
		if !cut {
			return absent
		}
		if addresses, there := table["*."+parent]; there {
			return join(slices.Clone(addresses))
		}
		rest = parent
	}
}
