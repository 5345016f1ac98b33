package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	networkingapi "istio.io/api/networking/v1alpha3"
	networking "istio.io/client-go/pkg/apis/networking/v1"
	istio "istio.io/client-go/pkg/clientset/versioned"
	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// cluster is a real control plane with a syncer beside it that has no more rights than we ship.
type cluster struct {
	t         *testing.T
	plane     *controlplane.ControlPlane
	clients   kubernetes.Interface
	istio     istio.Interface
	namespace string
	syncer    *programs.Process
	address   string
	http      string
	arguments []string // of the syncer
}

func newCluster(t *testing.T, options ...controlplane.Option) *cluster {
	t.Helper()
	c := &cluster{t: t, plane: controlplane.Start(t, options...)}
	var err error
	if c.clients, err = kubernetes.NewForConfig(c.plane.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	if c.istio, err = istio.NewForConfig(c.plane.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	c.namespace = c.plane.Namespace(t)
	c.startSyncer()
	return c
}

func (c *cluster) startSyncer() {
	c.t.Helper()
	if err := c.plane.GrantSyncerRole(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	kubeconfig, err := c.plane.KubeconfigFor(controlplane.SyncerUser)
	if err != nil {
		c.t.Fatal(err)
	}
	c.address, c.http = programs.FreeAddress(c.t), programs.FreeAddress(c.t)
	c.arguments = []string{"--kubeconfig", kubeconfig, "--insecure", "--listen", c.address, "--http-listen", c.http}
	c.syncer = programs.Start(c.t, programs.Syncer, c.arguments...)
}

// host is the name of a Service in the cluster's test namespace.
func (c *cluster) host(name string) string {
	return fmt.Sprintf("%s.%s.svc.cluster.local.", name, c.namespace)
}

func (c *cluster) createService(name string, spec corev1.ServiceSpec) *corev1.Service {
	c.t.Helper()
	spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
	service, err := c.clients.CoreV1().Services(c.namespace).Create(c.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec,
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return service
}

func (c *cluster) createServiceEntry(name, host string) {
	c.t.Helper()
	_, err := c.istio.NetworkingV1().ServiceEntries(c.namespace).Create(c.t.Context(), &networking.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: networkingapi.ServiceEntry{
			Hosts:      []string{host},
			Resolution: networkingapi.ServiceEntry_DNS,
			Ports:      []*networkingapi.ServicePort{{Number: 443, Name: "tls", Protocol: "TLS"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

// allocate writes a virtual IP as Istio's allocator does.
func (c *cluster) allocate(name, host, address string) {
	c.t.Helper()
	patch := fmt.Sprintf(`{"status":{"addresses":[{"host":%q,"value":%q}]}}`, host, address)
	_, err := c.istio.NetworkingV1().ServiceEntries(c.namespace).Patch(c.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestKubernetes(t *testing.T) {
	c := newCluster(t, controlplane.WithIstioCRDs())
	m := newMachine(t, []string{c.address})
	m.isReady()

	t.Run("Service", func(t *testing.T) {
		service := c.createService("reviews", corev1.ServiceSpec{})
		t.Logf("created in %v", m.answers(c.host("reviews"), dns.TypeA, service.Spec.ClusterIP))
		pointer, err := dns.ReverseAddr(service.Spec.ClusterIP)
		if err != nil {
			t.Fatal(err)
		}
		m.answersNow(pointer, dns.TypePTR, c.host("reviews"))
		if err := c.clients.CoreV1().Services(c.namespace).Delete(t.Context(), "reviews", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("gone in %v", m.answers(c.host("reviews"), dns.TypeA, "NXDOMAIN"))
		m.answersNow(strings.TrimPrefix(c.host("x"), "x."), dns.TypeA, "")
	})

	t.Run("dual stack", func(*testing.T) {
		policy := corev1.IPFamilyPolicyRequireDualStack
		service := c.createService("both", corev1.ServiceSpec{IPFamilyPolicy: &policy})
		for _, ip := range service.Spec.ClusterIPs {
			qtype := dns.TypeA
			if strings.Contains(ip, ":") {
				qtype = dns.TypeAAAA
			}
			m.answers(c.host("both"), qtype, ip)
		}
	})

	t.Run("headless", func(t *testing.T) {
		c.createService("db", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone})
		m.answers(c.host("db"), dns.TypeA, "NXDOMAIN")
		ready, hostname := true, "db-0"
		slice := &discovery.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "db-1", Labels: map[string]string{
				discovery.LabelServiceName: "db", corev1.IsHeadlessService: "",
			}},
			AddressType: discovery.AddressTypeIPv4,
			Endpoints: []discovery.Endpoint{
				{Addresses: []string{"10.244.0.5"}, Hostname: &hostname, Conditions: discovery.EndpointConditions{Ready: &ready}},
			},
		}
		slices := c.clients.DiscoveryV1().EndpointSlices(c.namespace)
		slice, err := slices.Create(t.Context(), slice, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("ready in %v", m.answers(c.host("db"), dns.TypeA, "10.244.0.5"))
		m.answersNow(c.host("db-0.db"), dns.TypeA, "10.244.0.5")
		unready := false
		slice.Endpoints[0].Conditions.Ready = &unready
		if _, err := slices.Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		m.answers(c.host("db"), dns.TypeA, "NXDOMAIN")
	})

	t.Run("ServiceEntry", func(t *testing.T) {
		c.createServiceEntry("payments", "payments.example.com")
		m.answersNow("payments.example.com.", dns.TypeA, programs.Outside)
		c.allocate("payments", "payments.example.com", "240.240.7.7")
		t.Logf("allocated in %v", m.answers("payments.example.com.", dns.TypeA, "240.240.7.7"))
		m.answersNow("payments.example.com.", dns.TypeAAAA, "")
		entries := c.istio.NetworkingV1().ServiceEntries(c.namespace)
		if err := entries.Delete(t.Context(), "payments", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("gone in %v", m.answers("payments.example.com.", dns.TypeA, programs.Outside))
	})

	t.Run("WorkloadEntries and Pods", func(t *testing.T) { c.testWorkloads(t, m) })

	t.Run("API server gone and back", func(t *testing.T) {
		service := c.createService("lasting", corev1.ServiceSpec{})
		m.answers(c.host("lasting"), dns.TypeA, service.Spec.ClusterIP)
		if err := c.plane.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		c.syncer.WaitFor(t, "API server")
		m.answersNow(c.host("lasting"), dns.TypeA, service.Spec.ClusterIP)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.plane.StartAPIServer(ctx); err != nil {
			t.Fatal(err)
		}
		after := c.createService("after", corev1.ServiceSpec{})
		t.Logf("caught up in %v", m.answers(c.host("after"), dns.TypeA, after.Spec.ClusterIP))
		m.answersNow(c.host("lasting"), dns.TypeA, service.Spec.ClusterIP)
	})
}

// TestWithoutIstio starts where no CRD of Istio is installed.
func TestWithoutIstio(t *testing.T) {
	c := newCluster(t)
	m := newMachine(t, []string{c.address})
	m.isReady()
	service := c.createService("reviews", corev1.ServiceSpec{})
	m.answers(c.host("reviews"), dns.TypeA, service.Spec.ClusterIP)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := c.plane.InstallIstioCRDs(ctx); err != nil {
		t.Fatal(err)
	}
	c.createServiceEntry("payments", "payments.example.com")
	c.allocate("payments", "payments.example.com", "240.240.7.7")
	t.Logf("ServiceEntry of a new CRD in %v", m.answers("payments.example.com.", dns.TypeA, "240.240.7.7"))

	if err := c.plane.RemoveIstioCRDs(ctx); err != nil {
		t.Fatal(err)
	}
	m.answers("payments.example.com.", dns.TypeA, programs.Outside)
	m.answersNow(c.host("reviews"), dns.TypeA, service.Spec.ClusterIP)
}

func TestAPIServerUnreachable(t *testing.T) {
	kubeconfig := t.TempDir() + "/kubeconfig"
	dead := programs.FreeAddress(t)
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://%s"}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, dead)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address, http := programs.FreeAddress(t), programs.FreeAddress(t)
	syncer := programs.Start(t, programs.Syncer, "--kubeconfig", kubeconfig, "--insecure", "--listen", address, "--http-listen", http)
	syncer.WaitFor(t, dead)
	syncer.WaitFor(t, "refused")
	eventually(t, "readyz says 503", func() error { return status("http://"+http+"/readyz", http503) })
	if err := status("http://"+http+"/healthz", 200); err != nil {
		t.Error(err)
	}
	m := newMachine(t, []string{address})
	m.coredns.WaitFor(t, "kubernetes")
	m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "SERVFAIL")
	m.answersNow("example.org.", dns.TypeA, programs.Outside)
}
