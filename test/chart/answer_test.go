//go:build chart

package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestVMAnswers goes the operator's way: the chart with a load balancer, meshvmctl bootstrap, and CoreDNS on what that wrote.
func TestVMAnswers(t *testing.T) {
	for _, version := range helms {
		t.Run(version, func(t *testing.T) {
			c := newCluster(t)
			c.clear()
			c.populate(t)
			c.install(version, "{service: {type: LoadBalancer}, vip: {mode: allocate}}")
			syncer := c.schedule(t)
			c.balance(t, syncer)
			syncer.start(t)
			syncer.ready(t)
			m := boot(t, c.bootstrap(t, objectsNamespace))
			m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
			m.answers("mongodb-0.mongodb.prod.svc.cluster.local", dns.TypeA, "10.0.77.2")
			m.answers("literal.example.com", dns.TypeA, "192.0.2.77")
			m.answers("workloads.example.com", dns.TypeA, "10.0.77.9 192.0.2.90")
			eventually(t, "due.example.com has a virtual IP", func() error {
				got, err := m.ask("due.example.com", dns.TypeA)
				if err == nil && (len(got) < 8 || got[:8] != "240.240.") {
					err = errNotYet
				}
				return err
			})
			m.answers("nobody.prod.svc.cluster.local", dns.TypeA, "NXDOMAIN")
			m.answers("www.example.net", dns.TypeA, "192.0.2.53")
		})
	}
}

// TestCertificateIsExchanged: what VMs trust and what the syncer shows are renewed one after the other, and a VM follows all the while.
func TestCertificateIsExchanged(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	with := func(authorities string) string {
		return "{service: {type: LoadBalancer}, tls: {selfSigned: {authorities: " + authorities + "}}}"
	}
	c.install("helm", with("[first]"))
	syncer := c.schedule(t)
	c.balance(t, syncer)
	syncer.start(t)
	syncer.ready(t)
	bundle := c.bootstrap(t, objectsNamespace)
	m := boot(t, bundle)
	m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
	certificate := c.secret("meshvm-syncer-tls").Data["tls.crt"]
	for _, step := range []struct {
		authorities string
		exchanged   bool // the certificate
	}{{"[first, second]", false}, {"[second, first]", true}, {"[second]", false}} {
		c.upgrade("helm", with(step.authorities))
		now := c.secret("meshvm-syncer-tls").Data["tls.crt"]
		if exchanged := string(now) != string(certificate); exchanged != step.exchanged {
			t.Fatalf("authorities %s: the certificate is exchanged: got %t, want %t", step.authorities, exchanged, step.exchanged)
		}
		certificate = now
		m.trust(c)
		syncer.mount(t)
		// A new syncer, so that the VM has to connect again, and look at the certificate.
		syncer.stop(t)
		syncer.start(t)
		syncer.ready(t)
		host, address := c.newService(t)
		m.answers(host, dns.TypeA, address)
	}
}

// TestReplicasAreListed: with the chart's own Service, and the rights that a syncer has anyway.
func TestReplicasAreListed(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.install("helm", "")
	slice := `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: meshvm-syncer-metrics-1, namespace: meshvm, labels: {app.kubernetes.io/part-of: meshvm, kubernetes.io/service-name: meshvm-syncer-metrics, service.kubernetes.io/headless: ""}}
addressType: IPv4
ports: [{name: http-metrics, port: 15055, protocol: TCP}]
endpoints:
  - {addresses: [10.0.88.1], nodeName: node-1, zone: east, conditions: {ready: true, serving: true}}
  - {addresses: [10.0.88.2], nodeName: node-2, zone: west, conditions: {ready: true, serving: false}}
`
	if err := c.apply(slice); err != nil {
		t.Fatal(err)
	}
	defer c.delete("discovery.k8s.io/v1/endpointslices")
	syncer := c.schedule(t)
	syncer.start(t)
	syncer.ready(t)
	for _, want := range []string{`"address":"10.0.88.1","node":"node-1","zone":"east","ready":true`, `"address":"10.0.88.2","node":"node-2","zone":"west","ready":false`} {
		eventually(t, "the page lists "+want, func() error {
			body, err := syncer.get("/status/api/replica")
			if err == nil && !strings.Contains(body, want) {
				err = errNotYet
			}
			return err
		})
	}
}

// trust writes the authorities of ConfigMap meshvm-ca to the VM, as meshvmctl bootstrap and a copy do.
func (m *vm) trust(c *cluster) {
	m.t.Helper()
	authorities, err := c.clients.CoreV1().ConfigMaps(namespace).Get(m.t.Context(), "meshvm-ca", metav1.GetOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	file := filepath.Join(m.bundle, "ca.pem")
	if _, err := os.Stat(file); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(authorities.Data["ca.crt"]), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// newService makes a Service that nobody had, and returns its name and address.
func (c *cluster) newService(t *testing.T) (host, address string) {
	t.Helper()
	service, err := c.clients.CoreV1().Services(objectsNamespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "new-"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return service.Name + "." + objectsNamespace + ".svc.cluster.local", service.Spec.ClusterIP
}
