package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	networkingapi "istio.io/api/networking/v1alpha3"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// sidecarOf is a Sidecar of namespace vm, which imports one host and what is in its own namespace.
func sidecarOf(host string) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: vm}
spec: {egress: [{hosts: [./*, "*/%s"]}]}
`, host)
}

const scopedServices = `
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: prod}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: prod}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: prod}
spec:
  hosts: [api.example.com]
  addresses: [192.0.2.1]
  resolution: STATIC
  ports: [{number: 443, name: https, protocol: HTTPS}]
`

// TestSidecarScope: a VM is answered what its Sidecar imports and nothing else, and follows it.
func TestSidecarScope(t *testing.T) {
	const reviews, ratings, api = "reviews.prod.svc.cluster.local.", "ratings.prod.svc.cluster.local.", "api.example.com."
	folder := t.TempDir()
	write(t, folder, "services.yaml", scopedServices)
	write(t, folder, "sidecar.yaml", sidecarOf("reviews.prod.svc.cluster.local"))
	address, http := programs.FreeAddress(t), programs.FreeAddress(t)
	arguments := []string{"--manifests", folder, "--insecure", "--listen", address, "--http-listen", http}
	programs.Start(t, programs.Syncer, append(arguments, "--sidecar-scope")...)
	m := newMachine(t, []string{address})
	other := newMachine(t, []string{address}, "insecure", "namespace elsewhere")
	m.answers(reviews, dns.TypeA, "10.96.0.1")
	m.answersNow(ratings, dns.TypeA, "NXDOMAIN")
	m.answersNow(api, dns.TypeA, programs.Outside)
	other.answers(ratings, dns.TypeA, "10.96.0.2")
	other.answersNow(api, dns.TypeA, "192.0.2.1")

	write(t, folder, "sidecar.yaml", sidecarOf("ratings.prod.svc.cluster.local"))
	t.Logf("another name after %v", m.answers(ratings, dns.TypeA, "10.96.0.2"))
	m.answersNow(reviews, dns.TypeA, "NXDOMAIN")
	write(t, folder, "sidecar.yaml", sidecarOf("*.example.com"))
	t.Logf("a host outside the zone after %v", m.answers(api, dns.TypeA, "192.0.2.1"))
	m.answersNow(ratings, dns.TypeA, "NXDOMAIN")
	if err := os.Remove(filepath.Join(folder, "sidecar.yaml")); err != nil {
		t.Fatal(err)
	}
	t.Logf("everything after %v", m.answers(reviews, dns.TypeA, "10.96.0.1"))
	m.answersNow(ratings, dns.TypeA, "10.96.0.2")
	other.answersNow(ratings, dns.TypeA, "10.96.0.2")
	syncerMetric(t, http, "meshvm_syncer_rescoped_total 3")
}

// TestSidecarReachesVMs measures, on a real API server, how long after an edit of a Sidecar a VM answers by it.
func TestSidecarReachesVMs(t *testing.T) {
	const rounds = 10
	// bound is generous, for machines that are busy with other tests: it is to hold for one second.
	const bound = 5 * time.Second
	c := newCluster(t, controlplane.WithIstioCRDs())
	c.restartWith("--sidecar-scope")
	m := newMachine(t, []string{c.address}, "insecure", "namespace "+c.namespace, "node vm-1")
	m.isReady()
	ctx := t.Context()
	created := c.createService("reviews", corev1.ServiceSpec{})
	m.answers(c.host("reviews"), dns.TypeA, created.Spec.ClusterIP)
	create := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create(c.istio.NetworkingV1().Sidecars(c.namespace).Create(ctx, &networking.Sidecar{
		ObjectMeta: metav1.ObjectMeta{Name: "vms"},
		Spec: networkingapi.Sidecar{
			WorkloadSelector: &networkingapi.WorkloadSelector{Labels: map[string]string{"app": "vm"}},
			Egress:           []*networkingapi.IstioEgressListener{{Hosts: []string{"~/*"}}},
		},
	}, metav1.CreateOptions{}))
	create(c.istio.NetworkingV1().WorkloadEntries(c.namespace).Create(ctx, &networking.WorkloadEntry{
		ObjectMeta: metav1.ObjectMeta{Name: "vm-1"},
		Spec:       networkingapi.WorkloadEntry{Address: "10.0.0.5", Labels: map[string]string{"app": "vm"}},
	}, metav1.CreateOptions{}))
	t.Logf("hidden by the labels of the VM after %v", m.answers(c.host("reviews"), dns.TypeA, "NXDOMAIN"))

	var worst time.Duration
	for i := range rounds {
		hosts, want := `["./*"]`, created.Spec.ClusterIP
		if i%2 == 1 {
			hosts, want = `["~/*"]`, "NXDOMAIN"
		}
		began := time.Now()
		create(c.istio.NetworkingV1().Sidecars(c.namespace).Patch(ctx, "vms", types.MergePatchType,
			[]byte(`{"spec":{"egress":[{"hosts":`+hosts+`}]}}`), metav1.PatchOptions{}))
		m.answers(c.host("reviews"), dns.TypeA, want)
		worst = max(worst, time.Since(began))
	}
	t.Logf("from the patch of the Sidecar to the VM's answer: worst %v of %d", worst, rounds)
	if worst > bound {
		t.Errorf("Worst: got %v, want at most %v", worst, bound)
	}
}
