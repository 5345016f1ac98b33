//go:build chart

package chart

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// everything is values with every mode that asks the API server for something. There are fewer virtual IPs than hosts, so that
// Events have something to say.
const everything = `{istio: {meshConfig: istio-system/istio, sidecarScope: true}, service: {type: LoadBalancer},
  vip: {mode: allocate, ranges: [240.240.0.0/30]}}`

// right is something that the chart's roles grant, and what is broken without.
type right struct {
	verbs    string // "|" between them
	resource string // GROUP/RESOURCE, or a path
	breaks   string
	works    func(p *pod, m *vm) error // nil while the feature works
}

func (r right) what() string { return r.verbs + " " + r.resource }

// isReady is a feature of many rights: a syncer that cannot see all of the cluster serves no VM, lest names vanish.
func isReady(p *pod, _ *vm) error {
	_, err := p.get("/readyz")
	return err
}

func follows(_ *pod, m *vm) error {
	got, err := m.ask("reviews.prod.svc.cluster.local", dns.TypeA)
	if err == nil && got != "10.96.77.1" {
		err = fmt.Errorf("the VM answers %q", got)
	}
	return err
}

func says(host, part string) func(*pod, *vm) error {
	return func(p *pod, _ *vm) error { return p.knows(host, part) }
}

// rights is each rule of the chart's roles, by what is broken without it.
func rights(c *cluster) []right {
	given := func(*pod, *vm) error {
		entries, err := c.istio.NetworkingV1().ServiceEntries(objectsNamespace).List(c.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, entry := range entries.Items {
			if len(entry.Status.Addresses) > 0 {
				return nil
			}
		}
		return errors.New("no ServiceEntry has a virtual IP")
	}
	told := func(*pod, *vm) error {
		events, err := c.clients.CoreV1().Events(objectsNamespace).List(c.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=ServiceEntry"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("no Event on a ServiceEntry")
		}
		return err
	}
	configured := func(p *pod, _ *vm) error {
		metrics, err := p.get("/metrics")
		if err == nil && !strings.Contains(metrics, `meshvm_syncer_mesh_config{state="read"} 1`) {
			err = errors.New("the mesh configuration is not read")
		}
		return err
	}
	return []right{
		{"list|watch", "/services", "the syncer is ready", isReady},
		{"list|watch", "/namespaces", "the syncer is ready", isReady},
		{"list|watch", "/pods", "Pods that a ServiceEntry selects are answered", says("workloads.example.com", "10.0.77.9")},
		{"list|watch", "discovery.k8s.io/endpointslices", "the syncer is ready", isReady},
		{"list|watch", "networking.istio.io/serviceentries", "hosts of ServiceEntries are answered", says("literal.example.com", "192.0.2.77")},
		{"list|watch", "networking.istio.io/workloadentries", "WorkloadEntries that a ServiceEntry selects are answered", says("workloads.example.com", "192.0.2.90")},
		{"list|watch", "networking.istio.io/sidecars", "the syncer is ready", isReady},
		{"get|list|watch", "apiextensions.k8s.io/customresourcedefinitions", "hosts of ServiceEntries are answered", says("literal.example.com", "192.0.2.77")},
		{"create", "authentication.k8s.io/tokenreviews", "VMs follow with a token", follows},
		{"create", "authorization.k8s.io/subjectaccessreviews", "VMs follow with a token", follows},
		{"patch", "networking.istio.io/serviceentries/status", "hosts get virtual IPs", given},
		{"list|watch", "/nodes", "hosts get virtual IPs", given},
		{"list|watch", "networking.k8s.io/servicecidrs", "hosts get virtual IPs", given},
		{"create|patch", "/events", "a ServiceEntry says why it has no virtual IP", told},
		{"create", "coordination.k8s.io/leases", "hosts get virtual IPs", given},
		{"get|update", "coordination.k8s.io/leases", "hosts get virtual IPs", given},
		{"get|create|update", "/configmaps", "hosts get virtual IPs", given},
		{"list|watch", "/configmaps", "Istio's mesh configuration is followed", configured},
	}
}

// TestEveryRightIsNeeded: with all rights everything works, and each of them is used; without any one of them something that
// can be named does not work. Nothing that is denied is ever asked for.
func TestEveryRightIsNeeded(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.install("helm", everything)
	syncer := c.schedule(t)
	c.balance(t, syncer)
	bundle := c.bootstrap(t, objectsNamespace)

	t.Run("no other", func(t *testing.T) {
		var want []string
		for _, right := range rights(c) {
			for verb := range strings.SplitSeq(right.verbs, "|") {
				want = append(want, verb+" "+right.resource)
			}
		}
		slices.Sort(want)
		if got := c.granted(t); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("The chart grants the syncer\n%q, want what is taken away below\n%q", got, want)
		}
	})
	t.Run("with all", func(t *testing.T) {
		c.forget(t)
		log := auditFromNow(t)
		syncer.start(t)
		syncer.ready(t)
		m := boot(t, bundle)
		for _, right := range rights(c) {
			eventually(t, right.breaks, func() error { return right.works(syncer, m) })
		}
		c.workAgain(t)
		for _, right := range rights(c) {
			for verb := range strings.SplitSeq(right.verbs, "|") {
				if verb == "list" || right.resource == "/events" && verb == "patch" {
					// An API server that does not stream lists (WatchList) is asked for them, and one Event is patched when it occurs again.
					continue
				}
				log.asked(t, verb+" "+right.resource, true)
			}
		}
		requests, err := log.requests()
		if err != nil {
			t.Fatal(err)
		}
		for _, request := range requests {
			if !request.allowed() {
				t.Errorf("The syncer asked for what it may not: %s", request.what())
			}
		}
		syncer.stop(t)
		m.coredns.Stop(t, syscall.SIGTERM)
	})
	for _, right := range rights(c) {
		t.Run("without "+right.what(), func(t *testing.T) {
			c := *c
			c.t = t
			c.forget(t)
			c.take(t, right)
			log := auditFromNow(t)
			syncer.start(t)
			m := boot(t, bundle)
			log.asked(t, right.what(), false)
			never(t, right.breaks, func() error { return right.works(syncer, m) })
			syncer.stop(t)
			m.coredns.Stop(t, syscall.SIGTERM)
		})
	}
}

// TestKeysOfTokens: Kubernetes lets every ServiceAccount read the keys of tokens; where that was taken away, the chart's role does.
func TestKeysOfTokens(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.install("helm", "{identity: {tokenReview: false, tokenJWKS: cluster}, service: {type: LoadBalancer}}")
	bindings := c.clients.RbacV1().ClusterRoleBindings()
	public, err := bindings.Get(t.Context(), "system:service-account-issuer-discovery", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bindings.Delete(t.Context(), public.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		public.ResourceVersion = ""
		if _, err := bindings.Create(context.Background(), public, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	syncer := c.schedule(t)
	c.balance(t, syncer)
	syncer.start(t)
	syncer.ready(t)
	bundle := c.bootstrap(t, objectsNamespace)
	m := boot(t, bundle)
	m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
	m.coredns.Stop(t, syscall.SIGTERM)
	syncer.stop(t)

	for _, path := range []string{"/openid/v1/jwks", "/.well-known/openid-configuration"} {
		t.Run("without "+path, func(t *testing.T) {
			c := *c
			c.t = t
			keys := right{verbs: "get", resource: path}
			c.take(t, keys)
			log := auditFromNow(t)
			syncer.start(t)
			m := boot(t, bundle)
			log.asked(t, keys.what(), false)
			never(t, "VMs follow with a token", func() error { return follows(syncer, m) })
			m.coredns.Stop(t, syscall.SIGTERM)
			syncer.stop(t)
		})
	}
}

// forget has the cluster as if no virtual IP had ever been given, and no Event written.
func (c *cluster) forget(t *testing.T) {
	t.Helper()
	in := c.clients.CoreV1()
	ledger, err := in.ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range ledger.Items {
		if strings.HasPrefix(part.Name, "meshvm-vip-ledger-") {
			if err := in.ConfigMaps(namespace).Delete(t.Context(), part.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.clients.CoordinationV1().Leases(namespace).Delete(t.Context(), "meshvm-vip-allocator", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	if err := in.Events(objectsNamespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	entries := c.istio.NetworkingV1().ServiceEntries(objectsNamespace)
	if err := entries.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.apply(objects + tooMany("many")); err != nil {
		t.Fatal(err)
	}
}

// tooMany is a ServiceEntry with more hosts than there are virtual IPs.
func tooMany(name string) string {
	var hosts []string
	for i := range 8 {
		hosts = append(hosts, fmt.Sprintf("%s-%d.example.com", name, i))
	}
	return "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " + name + ", namespace: prod}\nspec: {hosts: [" +
		strings.Join(hosts, ", ") + "], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}\n"
}

// workAgain changes things, so that what the syncer has written is written over.
func (c *cluster) workAgain(t *testing.T) {
	t.Helper()
	if err := c.apply(tooMany("more")); err != nil {
		t.Fatal(err)
	}
	if err := c.istio.NetworkingV1().ServiceEntries(objectsNamespace).Delete(t.Context(), "many", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
