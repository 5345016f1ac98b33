package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/source"
)

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "prod", Name: name}
}

func TestSelectorlessAreHeadlessServicesWithoutASelector(t *testing.T) {
	service := func(edits ...func(*corev1.ServiceSpec)) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "db"}}
		for _, edit := range edits {
			edit(&s.Spec)
		}
		return s
	}
	headless := func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "None", []string{"None"} }
	selects := func(s *corev1.ServiceSpec) { s.Selector = map[string]string{"app": "db"} }
	addressed := func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.0.1" }
	alias := func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "a.com" }
	kinds := map[string]struct {
		service *corev1.Service
		want    bool
	}{
		"headless":                 {service(headless), true},
		"headless with a selector": {service(headless, selects), false},
		"cluster IP":               {service(addressed), false},
		"alias":                    {service(alias), false},
	}
	for before, was := range kinds {
		for after, is := range kinds {
			t.Run(before+" to "+after, func(t *testing.T) {
				of := newSelectorless()
				of.OnAdd(trimService(was.service.DeepCopy()), true)
				if _, known := of.latest(); known {
					t.Error("latest is known before Services were listed")
				}
				of.listed()
				of.OnUpdate(nil, trimService(is.service.DeepCopy()))
				if held, known := of.latest(); !known || held[named("db")] != is.want {
					t.Errorf("latest: got %v, known %t, want db in it: %t", held, known, is.want)
				}
				of.OnDelete(cache.DeletedFinalStateUnknown{Key: "prod/db"})
				if held, _ := of.latest(); len(held) != 0 {
					t.Errorf("latest after the Service went: got %v, want none", held)
				}
			})
		}
	}
}

func TestSelectorOfUnlabelledSlices(t *testing.T) {
	many := services{}
	for i := range 100 {
		many[named(fmt.Sprintf("%s-%02d", strings.Repeat("x", 60), i))] = true
	}
	slice := func(service string, others ...string) labels.Set {
		set := labels.Set{}
		if service != "" {
			set[discoveryv1.LabelServiceName] = service
		}
		for _, other := range others {
			set[other] = ""
		}
		return set
	}
	for _, test := range []struct {
		name   string
		of     services
		slice  labels.Set
		picked bool
	}{
		{"of one", services{named("db"): true}, slice("db"), true},
		{"of one, labelled", services{named("db"): true}, slice("db", corev1.IsHeadlessService), false},
		{"of another", services{named("db"): true}, slice("web"), false},
		{"of none", services{named("db"): true}, slice(""), false},
		{"one of two", services{named("db"): true, named("cache"): true, {Namespace: "dev", Name: "db"}: true}, slice("cache", "app"), true},
		{"not one of two", services{named("db"): true, named("cache"): true}, slice("cach"), false},
		{"of many: all are picked", many, slice("web"), true},
		{"of many: the labelled are not", many, slice("web", corev1.IsHeadlessService), false},
		{"of many: those of no Service are not", many, slice(""), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			selector, err := labels.Parse(test.of.selector())
			if err != nil {
				t.Fatalf("%s: %v", test.of.selector(), err)
			}
			if got := selector.Matches(test.slice); got != test.picked {
				t.Errorf("%s picks %v: got %t, want %t", selector, test.slice, got, test.picked)
			}
		})
	}
	few := services{named("db"): true, {Namespace: "dev", Name: "db"}: true, named("a"): true}
	for _, test := range []struct {
		of    services
		want  string
		pause time.Duration
	}{
		{few, "!service.kubernetes.io/headless,kubernetes.io/service-name in (a,db)", narrowGap},
		{many, "!service.kubernetes.io/headless,kubernetes.io/service-name", wideGap},
	} {
		if got := test.of.selector(); got != test.want || test.of.pause() != test.pause {
			t.Errorf("selector of %d Services: got %q and a pause of %s, want %q and %s", len(test.of), got, test.of.pause(), test.want, test.pause)
		}
	}
}

func TestSlicesOfOtherServicesAreKeptWithoutContent(t *testing.T) {
	of := services{named("db"): true}
	for _, test := range []struct {
		name, namespace, service string
		wanted                   bool
	}{
		{"wanted", "prod", "db", true},
		{"of a Service of the same name", "dev", "db", false},
		{"of another Service", "prod", "web", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			slice := &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: test.namespace, Name: "x", ResourceVersion: "7", UID: "u", Labels: map[string]string{discoveryv1.LabelServiceName: test.service},
				},
				AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
			}
			trim := transform(of.unlabelled())
			trimmed, err := trim(slice)
			if err != nil {
				t.Fatal(err)
			}
			if trimmed, err = trim(trimmed); err != nil {
				t.Fatal(err)
			}
			kept := trimmed.(*discoveryv1.EndpointSlice)
			if got := len(kept.Endpoints) > 0; got != test.wanted {
				t.Errorf("endpoints kept: got %t, want %t", got, test.wanted)
			}
			if kept.ResourceVersion != "7" || kept.UID != "u" {
				t.Errorf("the slice lost what informers need: %+v", kept)
			}
			for _, object := range []any{kept, cache.DeletedFinalStateUnknown{Key: "prod/x", Obj: kept}} {
				if got := of.wants(object); got != test.wanted {
					t.Errorf("wants(%T): got %t, want %t", object, got, test.wanted)
				}
			}
		})
	}
}

// TestQueueJoinsFeeds has an object in several feeds, as a slice is for a moment when its label changes.
func TestQueueJoinsFeeds(t *testing.T) {
	labelled, former, latter := feed{source.KindEndpointSlice, 0}, feed{source.KindEndpointSlice, 1}, feed{source.KindEndpointSlice, 2}
	state := func(version string) metav1.Object {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: version}}
	}
	put := func(from feed, version string) func(*queue) {
		return func(q *queue) {
			if version == "" {
				q.put(from, object("a"), nil)
			} else {
				q.put(from, object("a"), state(version))
			}
		}
	}
	remove := func(from feed) func(*queue) { return func(q *queue) { q.removeFeed(from) } }
	for name, test := range map[string]struct {
		steps []func(*queue)
		want  string // The version, empty when it is gone.
		count int
	}{
		"comes before it goes":           {[]func(*queue){put(labelled, "1"), put(former, "2"), put(labelled, "")}, "2", 1},
		"goes before it comes":           {[]func(*queue){put(labelled, "1"), put(labelled, ""), put(former, "2")}, "2", 1},
		"old news before it goes":        {[]func(*queue){put(former, "2"), put(labelled, "1"), put(labelled, "")}, "2", 1},
		"gone from both":                 {[]func(*queue){put(labelled, "1"), put(former, "2"), put(labelled, ""), put(former, "")}, "", 0},
		"one feed takes another's place": {[]func(*queue){put(former, "1"), put(latter, "2"), remove(former)}, "2", 1},
		"that lags":                      {[]func(*queue){put(latter, "2"), put(former, "1"), remove(former)}, "2", 1},
		"and does not have it any more":  {[]func(*queue){put(former, "1"), remove(former)}, "", 0},
		"the latest of three":            {[]func(*queue){put(former, "1"), put(latter, "2"), put(labelled, "3"), put(labelled, "")}, "2", 2},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue()
			for _, step := range test.steps {
				step(q)
			}
			changes, _ := q.take(10)
			if len(changes) != 1 {
				t.Fatalf("changes: got %v, want one", changes)
			}
			got := ""
			if changes[0].state != nil {
				got = changes[0].state.GetResourceVersion()
			}
			if got != test.want {
				t.Errorf("version: got %q, want %q", got, test.want)
			}
			if got := q.count(source.KindEndpointSlice); got != test.count {
				t.Errorf("count: got %d, want %d", got, test.count)
			}
		})
	}
}

// selectors are the label selectors by which slices were asked for.
func (r *recorder) selectors() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	selectors := map[string]bool{}
	for _, seen := range r.seen {
		if _, rest, found := strings.Cut(seen, "/endpointslices?"); found {
			_, selector, _ := strings.Cut(rest, "labelSelector=")
			selector, _, _ = strings.Cut(selector, "&")
			selector, _, _ = strings.Cut(selector, " ")
			selectors[selector] = true
		}
	}
	return slices.Sorted(maps.Keys(selectors))
}

func (f *fixture) label(slice, patch string) {
	f.t.Helper()
	_, err := f.admin.DiscoveryV1().EndpointSlices(f.namespace).
		Patch(f.t.Context(), slice, types.MergePatchType, []byte(`{"metadata":{"labels":{`+patch+`}}}`), metav1.PatchOptions{})
	f.do(err)
}

func (f *fixture) patchService(name, spec string) {
	f.t.Helper()
	_, err := f.admin.CoreV1().Services(f.namespace).Patch(f.t.Context(), name, types.MergePatchType, []byte(`{"spec":`+spec+`}`), metav1.PatchOptions{})
	f.do(err)
}

func TestSlicesThatUsersMakeAnswerForHeadlessServicesWithoutASelector(t *testing.T) {
	f := newFixture(t)
	before := goleak.IgnoreCurrent()
	f.createService("plain", "10.96.4.1")
	f.createSlice("plain-1", "plain", "10.4.0.9")
	f.createService("early", corev1.ClusterIPNone)
	f.createSlice("early-1", "early", "10.4.0.1")
	// A Service that does not exist anywhere has slices too.
	f.createSlice("orphan-1", "orphan", "10.4.0.8")
	config, recorder := f.recorded(f.shippedRole())
	f.follow(config)
	f.awaitReady()
	if got, want := f.names(), []string{"early", "plain 10.96.4.1", "slice of early 10.4.0.1"}; !slices.Equal(got, want) {
		t.Errorf("names when synced: got %q, want %q", got, want)
	}
	if got := f.registry.Revision(); got != 1 {
		t.Errorf("revisions of the initial state: got %d, want 1", got)
	}

	// More come and change, and a Service of the same name elsewhere is none of them.
	f.createService("late", corev1.ClusterIPNone)
	f.createSlice("late-1", "late", "10.4.0.2")
	f.expect("early", "late", "plain 10.96.4.1", "slice of early 10.4.0.1", "slice of late 10.4.0.2")
	f.createSlice("early-2", "early", "10.4.0.3")
	f.expect("early", "late", "plain 10.96.4.1", "slice of early 10.4.0.1", "slice of early 10.4.0.3", "slice of late 10.4.0.2")

	// The label that others have comes and goes.
	f.label("early-2", `"service.kubernetes.io/headless":"","round":"1"`)
	f.label("early-2", `"service.kubernetes.io/headless":null,"round":"2"`)
	f.label("early-1", `"service.kubernetes.io/headless":""`)
	f.createSlice("late-2", "late", "10.4.0.4")
	f.expect("early", "late", "plain 10.96.4.1", "slice of early 10.4.0.1", "slice of early 10.4.0.3", "slice of late 10.4.0.2", "slice of late 10.4.0.4")
	f.do(f.admin.DiscoveryV1().EndpointSlices(f.namespace).Delete(t.Context(), "late-2", metav1.DeleteOptions{}))
	f.do(f.admin.DiscoveryV1().EndpointSlices(f.namespace).Delete(t.Context(), "early-1", metav1.DeleteOptions{}))
	f.expect("early", "late", "plain 10.96.4.1", "slice of early 10.4.0.3", "slice of late 10.4.0.2")

	// A selector: Kubernetes makes the slices now, with the label. Without it, all is as before.
	f.patchService("late", `{"selector":{"app":"late"}}`)
	f.expect("early", "late", "plain 10.96.4.1", "slice of early 10.4.0.3")
	f.patchService("late", `{"selector":null}`)
	f.expect("early", "late", "plain 10.96.4.1", "slice of early 10.4.0.3", "slice of late 10.4.0.2")

	for _, service := range []string{"late", "early"} {
		f.do(f.admin.CoreV1().Services(f.namespace).Delete(t.Context(), service, metav1.DeleteOptions{}))
	}
	f.expect("plain 10.96.4.1")
	f.eventually("no slice to be left in the registry, seen or not", func() bool { return f.sliceCount() == 0 })
	f.expectLog("following the slices of headless Services without a selector", "services=0")
	f.eventually("the source to be healthy", f.healthy)

	f.stop()
	goleak.VerifyNone(t, before)
	for _, selector := range recorder.selectors() {
		if selector != "service.kubernetes.io%2Fheadless" && !strings.Contains(selector, "+in+%28") {
			t.Errorf("slices were asked for by %s, want the label, or names", selector)
		}
	}
	if strings.Contains(f.log.String(), "forbids") {
		t.Error("the shipped role does not suffice")
	}
}

// sliceCount is the number of slices that the source holds.
func (f *fixture) sliceCount() int {
	f.t.Helper()
	families, err := f.metrics.Gather()
	f.do(err)
	for _, family := range families {
		if family.GetName() != "meshvm_syncer_kubernetes_objects" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == source.KindEndpointSlice {
				return int(metric.GetGauge().GetValue())
			}
		}
	}
	return -1
}

// TestManyHeadlessServicesWithoutASelector has more of them than a selector can name.
func TestManyHeadlessServicesWithoutASelector(t *testing.T) {
	f := newFixture(t)
	f.createService("plain", "10.96.5.1")
	f.createSlice("plain-1", "plain", "10.5.0.9")
	want := []string{"plain 10.96.5.1"}
	for i := range maxSelector/60 + 1 {
		name := fmt.Sprintf("%s%03d", strings.Repeat("x", 60), i)
		f.createService(name, corev1.ClusterIPNone)
		f.createSlice(name+"-1", name, fmt.Sprintf("10.5.1.%d", i+1))
		want = append(want, name, fmt.Sprintf("slice of %s 10.5.1.%d", name, i+1))
	}
	slices.Sort(want)
	f.follow(f.shippedRole())
	f.awaitReady()
	if got := f.names(); !slices.Equal(got, want) {
		t.Errorf("names when synced: got %d, want %d:\n%q\n%q", len(got), len(want), got, want)
	}
	f.expectLog("level=WARN", "reading the slices of all Services")
	if got, want := f.sliceCount(), (len(want)-1)/2; got != want {
		t.Errorf("slices: got %d, want %d: none of other Services", got, want)
	}

	// Their slices change and go with them.
	gone := fmt.Sprintf("%s%03d", strings.Repeat("x", 60), 0)
	f.do(f.admin.DiscoveryV1().EndpointSlices(f.namespace).Delete(t.Context(), gone+"-1", metav1.DeleteOptions{}))
	f.expect(slices.DeleteFunc(slices.Clone(want), func(line string) bool { return line == "slice of "+gone+" 10.5.1.1" })...)
	f.createSlice("plain-2", "plain", "10.5.0.8")
	f.do(f.admin.CoreV1().Services(f.namespace).Delete(t.Context(), gone, metav1.DeleteOptions{}))
	f.expect(slices.DeleteFunc(slices.Clone(want), func(line string) bool { return strings.Contains(line, gone) })...)
}
