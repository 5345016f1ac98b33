// Package hostile holds what objects and peers can do that want to do harm, or are out of their minds: nothing to
// anybody else.
package hostile

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
)

const (
	namespace = "prod"
	domain    = "cluster.local"
)

// mesh is a syncer's way from objects to what it sends, and the mirror of a VM that takes it.
type mesh struct {
	t          *testing.T
	translator *source.Translator
	registry   *registry.Registry
	feed       *registry.Source
	mirror     *mirror.Mirror
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	translator, err := source.NewTranslator(source.Options{ClusterDomain: domain})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, translator: translator, registry: registry.New(registry.Options{}), mirror: newMirror()}
	m.feed = m.registry.AddSource("objects")
	m.feed.Synced()
	m.replace(m.mirror)
	return m
}

func newMirror() *mirror.Mirror { return mirror.New(mirror.Options{TTL: 30, EndpointTTL: 5}) }

// change translates objects and has the mirror take what its view went through.
func (m *mesh) change(changes ...source.Change) []source.Problem {
	m.t.Helper()
	updates, problems := m.translator.Translate(changes...)
	if err := m.feed.Apply(time.Now(), updates...); err != nil {
		m.t.Fatalf("registry: %v", err)
	}
	from := m.mirror.State().Position().GetRevision()
	went, err := m.registry.Changes(namespace, from, m.registry.Revision())
	if err != nil {
		m.t.Fatal(err)
	}
	m.apply(m.mirror, mirror.Change{From: from, To: went.To, Upserts: resources(went.Upserts), Removals: went.Removals})
	return problems
}

// replace has a mirror take the whole view.
func (m *mesh) replace(to *mirror.Mirror) {
	m.t.Helper()
	content := m.registry.Content(namespace)
	m.apply(to, mirror.Change{To: content.Revision, Replace: true, Upserts: resources(content.Entries)})
}

func (m *mesh) apply(to *mirror.Mirror, change mirror.Change) {
	m.t.Helper()
	change.Generation, change.View, change.ClusterDomain = m.registry.Generation(), namespace, domain
	if err := to.Apply(change); err != nil {
		m.t.Fatalf("the VM refuses what the syncer sends: %v", err)
	}
	proof := m.registry.Proof(namespace)
	if got := to.State(); got.Digest() != proof.Digest || got.Resources() != proof.Resources {
		m.t.Fatalf("mirror: got %d resources with digest %016x, want %d with %016x", got.Resources(), uint64(got.Digest()), proof.Resources, uint64(proof.Digest))
	}
}

func present(state metav1.Object) source.Change {
	return source.Change{Object: registry.Object{Kind: kindOf(state), Namespace: state.GetNamespace(), Name: state.GetName()}, State: state}
}

func kindOf(state metav1.Object) string {
	switch state.(type) {
	case *corev1.Service:
		return source.KindService
	case *discoveryv1.EndpointSlice:
		return source.KindEndpointSlice
	case *corev1.Namespace:
		return source.KindNamespace
	case *corev1.Pod:
		return source.KindPod
	case *networkingv1.WorkloadEntry:
		return source.KindWorkloadEntry
	default:
		return source.KindServiceEntry
	}
}

// FuzzObjects: whatever objects say, no VM refuses what the syncer makes of them, problems can be printed, and what
// a VM has followed is what one gets that comes anew.
func FuzzObjects(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed, "web", "10.0.0.1", int32(80))
	}
	for i, nasty := range []string{
		"", ".", "*", "*.", "*.*.a", "a..b", "-", "_", "Web", "bücher.example", "a\nb", "\x1b[2J", "\x00", "\xff\xfe", "\u202e", "a b", "a=b", `a"b`,
		strings.Repeat("a", 64), strings.Repeat("a.", 130), strings.Repeat("a", 63) + "." + strings.Repeat("b.", 94), strings.Repeat("x", 1<<16),
		"0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.0/8", "10.0.0.1/32", "unix:///run/x", "10.0.0.256",
	} {
		f.Add(uint64(1000+i), nasty, nasty, int32(-1+i*4096))
		f.Add(uint64(2000+i), "web", nasty, int32(0))
		f.Add(uint64(3000+i), nasty, "10.0.0.1", int32(65536))
	}
	f.Fuzz(func(t *testing.T, seed uint64, text, address string, number int32) {
		n := nasty{Rand: rand.New(rand.NewPCG(seed, 1)), text: text, given: address, number: number}
		m := newMesh(t)
		for range 1 + n.IntN(6) {
			var changes []source.Change
			for range 1 + n.IntN(4) {
				change := present(n.object())
				if n.IntN(5) == 0 {
					change.State = nil
				}
				changes = append(changes, change)
			}
			for _, problem := range m.change(changes...) {
				if len(problem.What) > 1000 || len(problem.Field) > 1000 {
					t.Errorf("Problem of %d bytes at a field of %d, want a line that can be read", len(problem.What), len(problem.Field))
				}
			}
		}
		anew := newMirror()
		m.replace(anew)
	})
}

// nasty makes objects of a few sound texts and some that are not.
type nasty struct {
	*rand.Rand
	text, given string
	number      int32
}

func pick[T any](n nasty, sound ...T) T { return sound[n.IntN(len(sound))] }

// word is a sound text, or once in three times what the fuzzer says.
func (n nasty) word(sound ...string) string {
	if n.IntN(3) == 0 {
		return n.text
	}
	return pick(n, sound...)
}

func (n nasty) address() string {
	if n.IntN(3) == 0 {
		return n.given
	}
	return pick(n, "10.0.0.1", "10.0.0.2", "fd00::1", "127.0.0.1", "169.254.0.1")
}

func (n nasty) port() int32 {
	if n.IntN(3) == 0 {
		return n.number
	}
	return pick[int32](n, 1, 80, 443, 65535)
}

func (n nasty) some(one func()) {
	for range n.IntN(3) {
		one()
	}
}

func (n nasty) object() metav1.Object {
	meta := metav1.ObjectMeta{
		Namespace: n.word(namespace, namespace, "dev"), Name: n.word("web", "db", "vm-1"),
		Labels:      map[string]string{"app": n.word("web", "db"), n.word("tier"): n.word("a"), discoveryv1.LabelServiceName: n.word("web", "db")},
		Annotations: map[string]string{source.ExportToAnnotation: n.word("", "*", "."), n.word("note"): n.word("x")},
	}
	if n.IntN(4) == 0 {
		meta.CreationTimestamp = metav1.Unix(n.Int64(), 0)
	}
	switch n.IntN(6) {
	case 0:
		return n.service(meta)
	case 1:
		return n.slice(meta)
	case 2:
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.word(namespace, "dev")}}
	case 3:
		return n.workload(meta)
	case 4:
		pod := &corev1.Pod{ObjectMeta: meta, Status: corev1.PodStatus{PodIP: n.address(), Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		n.some(func() { pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: n.address()}) })
		return pod
	default:
		return n.entry(meta)
	}
}

func (n nasty) service(meta metav1.ObjectMeta) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta}
	switch n.IntN(3) {
	case 0:
		s.Spec.ClusterIP = corev1.ClusterIPNone
		s.Spec.Selector = map[string]string{"app": n.word("web", "db")}
		s.Spec.PublishNotReadyAddresses = n.IntN(2) == 0
	case 1:
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, n.word("db.example.com", "192.0.2.1")
	default:
		n.some(func() { s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, n.address()) })
	}
	n.some(func() {
		port := corev1.ServicePort{Name: n.word("http", "SQL"), Port: n.port(), Protocol: corev1.Protocol(n.word("TCP", "UDP", "")), TargetPort: intstr.FromInt32(n.port())}
		if n.IntN(2) == 0 {
			port.TargetPort = intstr.FromString(n.word("http"))
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	})
	return s
}

func (n nasty) slice(meta metav1.ObjectMeta) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressType(n.word("IPv4", "IPv4", "IPv6", "FQDN"))}
	n.some(func() {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{n.address()}, Hostname: new(n.word("db-0", "")), Zone: new(n.word("zone-a")), NodeName: new(n.word("node-1")),
		})
	})
	n.some(func() {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new(n.word("http", "")), Port: new(n.port()), Protocol: new(corev1.Protocol(n.word("TCP")))})
	})
	return s
}

func (n nasty) workload(meta metav1.ObjectMeta) *networkingv1.WorkloadEntry {
	w := &networkingv1.WorkloadEntry{ObjectMeta: meta}
	w.Spec.Address = n.address()
	w.Spec.Labels = map[string]string{"app": n.word("web", "db")}
	w.Spec.Ports = map[string]uint32{n.word("http"): uint32(n.port())}
	return w
}

func (n nasty) entry(meta metav1.ObjectMeta) *networkingv1.ServiceEntry {
	e := &networkingv1.ServiceEntry{ObjectMeta: meta}
	for range 1 + n.IntN(3) {
		e.Spec.Hosts = append(e.Spec.Hosts, n.word("db.example.com", "*.example.com", "web", "DB.example.com."))
	}
	e.Spec.Resolution = pick(n, networking.ServiceEntry_NONE, networking.ServiceEntry_STATIC, networking.ServiceEntry_DNS, networking.ServiceEntry_DYNAMIC_DNS)
	n.some(func() { e.Spec.Addresses = append(e.Spec.Addresses, n.address()) })
	n.some(func() { e.Spec.ExportTo = append(e.Spec.ExportTo, n.word("*", ".", namespace)) })
	n.some(func() {
		e.Spec.Ports = append(e.Spec.Ports, &networking.ServicePort{Name: n.word("http", "TCP_x"), Number: uint32(n.port()), Protocol: n.word("TCP", "UDP"), TargetPort: uint32(n.port())})
	})
	n.some(func() {
		e.Status.Addresses = append(e.Status.Addresses, &networking.ServiceEntryAddress{Host: pick(n, e.Spec.Hosts...), Value: n.address()})
	})
	if n.IntN(2) == 0 {
		e.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: map[string]string{"app": n.word("web", "db")}}
	}
	n.some(func() { e.Spec.Endpoints = append(e.Spec.Endpoints, &networking.WorkloadEntry{Address: n.address()}) })
	return e
}

// effects are those of problems, each once.
func effects(problems []source.Problem) (found []source.Effect) {
	for _, problem := range problems {
		if !slices.Contains(found, problem.Effect) {
			found = append(found, problem.Effect)
		}
	}
	return found
}
