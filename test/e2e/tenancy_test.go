package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAnExportThatEnds takes a name away from the VMs of another namespace, again and again, and says how long that takes from the API
// server's answer on. The VMs of its own namespace notice nothing.
func TestAnExportThatEnds(t *testing.T) {
	c := newCluster(t)
	other := c.plane.Namespace(t)
	service := c.createService("lent", corev1.ServiceSpec{})
	host, address := c.host("lent"), service.Spec.ClusterIP
	own := newMachine(t, []string{c.address}, "insecure", "namespace "+c.namespace)
	foreign := newMachine(t, []string{c.address}, "insecure", "namespace "+other)
	own.answers(host, dns.TypeA, address)

	export := func(to string) {
		t.Helper()
		now, err := c.clients.CoreV1().Services(c.namespace).Get(t.Context(), "lent", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now.Annotations = map[string]string{"networking.istio.io/exportTo": to}
		if _, err := c.clients.CoreV1().Services(c.namespace).Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var took []time.Duration
	for range 10 {
		foreign.answers(host, dns.TypeA, address)
		export(".")
		took = append(took, foreign.answers(host, dns.TypeA, "NXDOMAIN"))
		own.answersNow(host, dns.TypeA, address)
		export(".," + other)
	}
	slices.Sort(took)
	t.Logf("a name is gone after its export ends: median %s, worst of %d %s", took[len(took)/2].Round(time.Millisecond), len(took), took[len(took)-1].Round(time.Millisecond))
}
