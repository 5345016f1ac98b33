package e2e

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
	networkingapi "istio.io/api/networking/v1alpha3"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/test/programs"
)

// virtualMachines are two behind a ServiceEntry and a headless Service, one of them named as Istio names those
// that register themselves.
const virtualMachines = `
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 3306, targetPort: sql}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: default}
spec:
  hosts: [db.vm.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 3306, name: sql, protocol: TCP}]
  workloadSelector: {labels: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-10.0.0.5, namespace: default, annotations: {proxy.istio.io/health-checks-enabled: "true"}}
spec: {address: 10.0.0.5, labels: {app: db}, ports: {sql: 33060}}
status: {conditions: [{type: Healthy, status: "STATUS", lastProbeTime: "2026-01-01T00:00:00Z"}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-six, namespace: default}
spec: {address: "fd00::5", labels: {app: db}, ports: {sql: 3306}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: elsewhere, namespace: default}
spec: {address: db.internal.example.org, labels: {app: db}}
`

func TestVirtualMachines(t *testing.T) {
	folder := t.TempDir()
	healthy := strings.Replace(virtualMachines, "STATUS", "True", 1)
	write(t, folder, "vms.yaml", healthy)
	_, address, _ := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	const vm = "vm-10.0.0.5.db.default.svc.cluster.local."
	m.answers(vm, dns.TypeA, "10.0.0.5")
	for _, tc := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{vm, dns.TypeAAAA, ""},
		{"0.5.db.default.svc.cluster.local.", dns.TypeA, ""},
		{"9.5.db.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"vm-six.db.default.svc.cluster.local.", dns.TypeAAAA, "fd00::5"},
		{"db.default.svc.cluster.local.", dns.TypeA, "10.0.0.5"},
		{"db.default.svc.cluster.local.", dns.TypeAAAA, "fd00::5"},
		{"elsewhere.db.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"_sql._tcp.db.default.svc.cluster.local.", dns.TypeSRV, "0 50 3306 vm-six.db.default.svc.cluster.local. 0 50 33060 " + vm},
		{"5.0.0.10.in-addr.arpa.", dns.TypePTR, "db.vm.example.com. " + vm + " vm-10.0.0.5.db.vm.example.com."},
		{"db.vm.example.com.", dns.TypeA, "10.0.0.5"},
		{"db.vm.example.com.", dns.TypeAAAA, "fd00::5"},
		{"vm-10.0.0.5.db.vm.example.com.", dns.TypeA, "10.0.0.5"},
		{"vm-six.db.vm.example.com.", dns.TypeAAAA, "fd00::5"},
		{"vm-six.db.vm.example.com.", dns.TypeA, ""},
	} {
		m.answersNow(tc.name, tc.qtype, tc.want)
	}

	write(t, folder, "vms.yaml", strings.Replace(virtualMachines, "STATUS", "False", 1))
	t.Logf("away in %v", m.answers(vm, dns.TypeA, "NXDOMAIN"))
	m.answersNow("db.default.svc.cluster.local.", dns.TypeA, "")
	m.answersNow("db.default.svc.cluster.local.", dns.TypeAAAA, "fd00::5")
	m.answersNow("db.vm.example.com.", dns.TypeA, "")
	m.answersNow("5.0.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN")

	write(t, folder, "vms.yaml", healthy)
	t.Logf("back in %v", m.answers(vm, dns.TypeA, "10.0.0.5"))
	m.answersNow("db.vm.example.com.", dns.TypeA, "10.0.0.5")
}

// testWorkloads lets WorkloadEntries and Pods come, change their health and go.
func (c *cluster) testWorkloads(t *testing.T, m *machine) {
	ctx := t.Context()
	create := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const host, vm = "fleet.example.com.", "vm-10.0.0.5.fleet.example.com."
	create(c.istio.NetworkingV1().ServiceEntries(c.namespace).Create(ctx, &networking.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Name: "fleet"},
		Spec: networkingapi.ServiceEntry{
			Hosts: []string{strings.TrimSuffix(host, ".")}, Location: networkingapi.ServiceEntry_MESH_INTERNAL, Resolution: networkingapi.ServiceEntry_STATIC,
			Ports:            []*networkingapi.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}},
			WorkloadSelector: &networkingapi.WorkloadSelector{Labels: map[string]string{"app": "fleet"}},
		},
	}, metav1.CreateOptions{}))
	create(c.istio.NetworkingV1().WorkloadEntries(c.namespace).Create(ctx, &networking.WorkloadEntry{
		ObjectMeta: metav1.ObjectMeta{Name: "vm-10.0.0.5", Annotations: map[string]string{"proxy.istio.io/health-checks-enabled": "true"}},
		Spec:       networkingapi.WorkloadEntry{Address: "10.0.0.5", Labels: map[string]string{"app": "fleet"}},
	}, metav1.CreateOptions{}))
	health := func(status string) {
		create(c.istio.NetworkingV1().WorkloadEntries(c.namespace).Patch(ctx, "vm-10.0.0.5", types.MergePatchType,
			[]byte(`{"status":{"conditions":[{"type":"Healthy","status":"`+status+`"}]}}`), metav1.PatchOptions{}, "status"))
	}
	health("True")
	t.Logf("healthy in %v", m.answers(vm, dns.TypeA, "10.0.0.5"))
	m.answersNow(host, dns.TypeA, "10.0.0.5")

	create(c.clients.CoreV1().Pods(c.namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "fleet-0", Labels: map[string]string{"app": "fleet"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "fleet", Image: "fleet"}}},
	}, metav1.CreateOptions{}))
	create(c.clients.CoreV1().Pods(c.namespace).Patch(ctx, "fleet-0", types.MergePatchType,
		[]byte(`{"status":{"phase":"Running","podIP":"10.1.0.7","podIPs":[{"ip":"10.1.0.7"}],"conditions":[{"type":"Ready","status":"True"}]}}`), metav1.PatchOptions{}, "status"))
	t.Logf("Pod beside it in %v", m.answers(host, dns.TypeA, "10.0.0.5 10.1.0.7"))

	health("False")
	t.Logf("not healthy in %v", m.answers(host, dns.TypeA, "10.1.0.7"))
	m.answersNow(vm, dns.TypeA, programs.Outside)
	c.allocate("fleet", strings.TrimSuffix(host, "."), "240.240.0.77")
	t.Logf("a virtual IP in %v", m.answers(host, dns.TypeA, "240.240.0.77"))
}
