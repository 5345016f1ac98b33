package meshvm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/coredns/plugin"
	pkgparse "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/proxy"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/status"
)

// blocks are the instances of the plugin that answer, each with the run that it is of. Only who explains answers looks at them.
type blocks struct {
	mu   sync.Mutex
	held map[*Meshvm]*run
}

func (b *blocks) enter(m *Meshvm, by *run) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		b.held = map[*Meshvm]*run{}
	}
	b.held[m] = by
}

func (b *blocks) leave(m *Meshvm) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.held, m)
}

// reclaim has an instance back whose run goes on, and drops those of all other runs.
func (b *blocks) reclaim(m *Meshvm, by *run) {
	b.enter(m, by)
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.held, func(_ *Meshvm, other *run) bool { return other != by })
}

// all is every instance, in the order of their keys.
func (b *blocks) all() []*Meshvm {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Keys(b.held), func(x, y *Meshvm) int { return slices.Compare(x.blockKeys, y.blockKeys) })
}

// upstreams is every resolver that forward asks in the Server Blocks of the plugin.
func (b *blocks) upstreams() []string {
	var all []string
	for _, m := range b.all() {
		all = append(all, m.upstreams()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// upstreams is the resolvers that forward asks in the Server Block.
func (m *Meshvm) upstreams() []string {
	if m.server == nil {
		return nil
	}
	forward, is := m.server.Handler("forward").(interface{ List() []*proxy.Proxy })
	if !is {
		return nil
	}
	var addresses []string
	for _, upstream := range forward.List() {
		addresses = append(addresses, upstream.Addr())
	}
	slices.Sort(addresses)
	return addresses
}

// explain answers a question by the Server Block that would answer a query for it.
func (b *blocks) explain(question status.Question) (status.Explanation, error) {
	name, qtype, err := checkQuestion(question)
	if err != nil {
		return status.Explanation{}, err
	}
	m := b.serving(name)
	if m == nil {
		return status.Explanation{}, fmt.Errorf("no Server Block with meshvm serves %s", name)
	}
	return m.explain(name, qtype), nil
}

// checkQuestion is the name, fully qualified, and the type of a question.
func checkQuestion(question status.Question) (name string, qtype uint16, err error) {
	if question.Name == "" {
		return "", 0, errors.New("the name is empty")
	}
	name = dns.Fqdn(question.Name)
	if _, valid := dns.IsDomainName(name); !valid || len(name) > 255 {
		return "", 0, fmt.Errorf("%.300q is no domain name", question.Name)
	}
	qtype = dns.TypeA
	if question.Type != "" {
		var known bool
		if qtype, known = dns.StringToType[strings.ToUpper(question.Type)]; !known || qtype == dns.TypeOPT {
			return "", 0, fmt.Errorf("%.50q is no record type", question.Type)
		}
	}
	return name, qtype, nil
}

// serving is the instance whose Server Block has the longest zone that a name is in, nil if there is none.
func (b *blocks) serving(name string) *Meshvm {
	var serving *Meshvm
	longest := -1
	for _, m := range b.all() {
		for _, key := range m.blockKeys {
			_, rest := pkgparse.Transport(key)
			zones, _, err := plugin.SplitHostPort(rest)
			if err != nil {
				continue
			}
			for _, zone := range zones {
				for _, fqdn := range plugin.Host(zone).NormalizeExact() {
					if len(fqdn) > longest && hasSuffix(canonical(name), canonical(fqdn)) {
						serving, longest = m, len(fqdn)
					}
				}
			}
		}
	}
	return serving
}
