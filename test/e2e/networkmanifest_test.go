//go:build linux

package e2e

import (
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// steady and moving are Services: the one never changes, the other moves with every change.
const (
	steady        = "s7.prod.svc.cluster.local."
	steadyAddress = "10.99.0.7"
	moving        = "moving.prod.svc.cluster.local."
)

// meshQuestion is what the machine is asked.
type meshQuestion struct {
	name  string
	qtype uint16
}

// furnish writes the manifests that stay as they are.
func (m *mesh) furnish() {
	m.t.Helper()
	m.want = map[meshQuestion]string{
		{"reviews.prod.svc.cluster.local.", dns.TypeAAAA}: "fd00:96::10",
		{"local.vm.svc.cluster.local.", dns.TypeA}:        "10.96.0.12",
		{"db.prod.svc.cluster.local.", dns.TypeA}:         "10.244.0.1 10.244.0.2",
		{"db-0.db.prod.svc.cluster.local.", dns.TypeA}:    "10.244.0.1",
		{"api.shop.example.com.", dns.TypeA}:              "240.240.0.1",
		{"any.thing.wild.shop.example.com.", dns.TypeA}:   "240.240.0.2",
		{"third.prod.svc.cluster.local.", dns.TypeCNAME}:  "reviews.prod.svc.cluster.local.",
		{"circle.prod.svc.cluster.local.", dns.TypeA}:     "SERVFAIL",
		{"empty.svc.cluster.local.", dns.TypeA}:           "",
		{"nope.prod.svc.cluster.local.", dns.TypeA}:       "NXDOMAIN",
		{"10.0.96.10.in-addr.arpa.", dns.TypePTR}:         "reviews.prod.svc.cluster.local.",
		{"1.0.240.240.in-addr.arpa.", dns.TypePTR}:        "api.shop.example.com.",
		{"reviews.prod.svc.cluster.local.", dns.TypeA}:    "10.96.0.10",
		{"old.prod.svc.cluster.local.", dns.TypeA}:        "10.96.0.11",
	}
	manifests := []string{town()}
	for i := range 100 {
		manifests = append(manifests, m.service(fmt.Sprintf("s%d", i), fmt.Sprintf("10.99.0.%d", i)))
	}
	write(m.t, m.folder, "town.yaml", documents(manifests...))
}

// service is the manifest of a Service. From now on it is wanted.
func (m *mesh) service(name, address string) string {
	m.t.Helper()
	m.want[meshQuestion{name + ".prod.svc.cluster.local.", dns.TypeA}] = address
	pointer, err := dns.ReverseAddr(address)
	if err != nil {
		m.t.Fatal(err)
	}
	m.want[meshQuestion{pointer, dns.TypePTR}] = name + ".prod.svc.cluster.local."
	return service(name+".prod", address)
}

// change moves the moving Service, makes another one and takes away the one before.
func (m *mesh) change() {
	m.t.Helper()
	for q, want := range m.want {
		switch {
		case m.version == 0: // there is none before
		case q.name == m.fresh:
			m.want[q] = "NXDOMAIN"
		case want == m.fresh, want == moving: // a pointer: nobody has the address any more
			m.want[q] = "REFUSED"
		}
	}
	m.version++
	low, high := m.version%250, m.version/250
	name := fmt.Sprintf("new%d", m.version)
	m.fresh = name + ".prod.svc.cluster.local."
	write(m.t, m.folder, "new.yaml", m.service(name, fmt.Sprintf("10.98.%d.%d", high, low)))
	write(m.t, m.folder, "moving.yaml", m.service("moving", fmt.Sprintf("10.97.%d.%d", high, low)))
}

// versionOf is which change gave an address to the moving Service.
func versionOf(address string) (int, error) {
	var high, low int
	if _, err := fmt.Sscanf(address, "10.97.%d.%d", &high, &low); err != nil {
		return 0, fmt.Errorf("%q is no address of %s: %w", address, moving, err)
	}
	return high*250 + low, nil
}

// arrived waits until the machine answers as the last change says.
func (m *mesh) arrived() (took time.Duration) {
	m.t.Helper()
	for _, name := range []string{m.fresh, moving} {
		took += m.machine.answers(name, dns.TypeA, m.want[meshQuestion{name, dns.TypeA}])
	}
	return took
}
