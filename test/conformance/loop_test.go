package conformance

import (
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testLoopAcrossZones asks for aliases that lead to each other through both of the cluster's zones. Only
// the plugin is asked: CoreDNS follows them until its stack is full, which ends the process.
func testLoopAcrossZones(t *testing.T, p *pair) {
	const namespace = "looped"
	c := p.cluster
	before := c.world()
	c.make(create(namespaceNamed(namespace)))
	for name, target := range map[string]string{
		"there": "back." + namespace + ".svc." + meshZone,
		"back":  "there." + namespace + ".svc." + clusterZone,
	} {
		c.make(create(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: target[:len(target)-1]},
		}))
	}
	p.inStep()
	defer c.clear(c.world(), before)

	for _, zone := range clusterZones {
		for _, name := range []string{"there", "back"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT} {
				q := question{name: name + "." + namespace + ".svc." + zone, qtype: qtype, at: reached, about: "Service " + namespace + "/" + name}
				t.Run(q.name+" "+dns.TypeToString[qtype], func(t *testing.T) {
					if got := viewOf(p.ours.askAt(q.at, q.message())); !got.isServerFailure() {
						t.Errorf("%v: got %v, want SERVFAIL and no records", q, got)
					}
				})
			}
		}
	}
}
