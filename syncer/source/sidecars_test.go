package source

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// sidecarChange is a Sidecar, `namespace/name`, made at a minute, which imports the hosts by one listener.
func sidecarChange(name string, minute int, hosts []string, edits ...func(*networkingv1.Sidecar)) Change {
	namespace, name, _ := strings.Cut(name, "/")
	s := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.Unix(int64(minute)*60, 0)}}
	s.Spec.Egress = []*networking.IstioEgressListener{{Hosts: hosts}}
	for _, edit := range edits {
		edit(s)
	}
	return Change{Object: registry.Object{Kind: KindSidecar, Namespace: namespace, Name: name}, State: s}
}

// forLabels has a Sidecar select workloads.
func forLabels(pairs ...string) func(*networkingv1.Sidecar) {
	return func(s *networkingv1.Sidecar) {
		s.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			s.Spec.WorkloadSelector.Labels[pairs[i]] = pairs[i+1]
		}
	}
}

func withoutEgress(s *networkingv1.Sidecar) { s.Spec.Egress = nil }

// vmChange is a WorkloadEntry of namespace prod.
func vmChange(name, address string, minute int, labels map[string]string, edits ...func(*networkingv1.WorkloadEntry)) Change {
	w := &networkingv1.WorkloadEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, CreationTimestamp: metav1.Unix(int64(minute)*60, 0)}}
	w.Spec.Address, w.Spec.Labels = address, labels
	for _, edit := range edits {
		edit(w)
	}
	return Change{Object: registry.Object{Kind: KindWorkloadEntry, Namespace: "prod", Name: name}, State: w}
}

func vanished(change Change) Change { return Change{Object: change.Object} }

// TestSidecarOfAVM holds Istio's choice of a Sidecar.
func TestSidecarOfAVM(t *testing.T) {
	all := []string{"*/*"}
	web, db := map[string]string{"app": "web", "tier": "front"}, map[string]string{"app": "db"}
	wide := sidecarChange("prod/wide", 5, all)
	root := sidecarChange("istio-system/root", 5, all)
	forWeb := sidecarChange("prod/web", 5, all, forLabels("app", "web"))
	tests := map[string]struct {
		changes []Change
		name    string
		address string
		want    string
	}{
		"none":                              {want: ""},
		"the namespace's":                   {changes: []Change{wide}, want: "prod/wide"},
		"another namespace's":               {changes: []Change{sidecarChange("dev/wide", 1, all)}, want: ""},
		"the oldest of the namespace":       {changes: []Change{wide, sidecarChange("prod/older", 4, all), sidecarChange("prod/younger", 6, all)}, want: "prod/older"},
		"of the same age, the first's":      {changes: []Change{wide, sidecarChange("prod/also", 5, all)}, want: "prod/also"},
		"the root namespace's":              {changes: []Change{root}, want: "istio-system/root"},
		"the oldest of the root namespace":  {changes: []Change{root, sidecarChange("istio-system/older", 4, all)}, want: "istio-system/older"},
		"the namespace's before the root's": {changes: []Change{root, wide}, want: "prod/wide"},
		"the root's own does not select":    {changes: []Change{sidecarChange("istio-system/web", 1, all, forLabels("app", "web")), vmChange("vm", "", 0, web)}, name: "vm", want: ""},
		"one that selects it": {
			changes: []Change{wide, forWeb, vmChange("vm", "", 0, web)}, name: "vm", want: "prod/web",
		},
		"one that selects it, younger than the namespace's": {
			changes: []Change{wide, sidecarChange("prod/web", 9, all, forLabels("app", "web")), vmChange("vm", "", 0, web)}, name: "vm", want: "prod/web",
		},
		"the oldest that selects it": {
			changes: []Change{forWeb, sidecarChange("prod/front", 4, all, forLabels("tier", "front")), vmChange("vm", "", 0, web)}, name: "vm", want: "prod/front",
		},
		"one that selects others": {
			changes: []Change{wide, forWeb, vmChange("vm", "", 0, db)}, name: "vm", want: "prod/wide",
		},
		"one that asks for more labels": {
			changes: []Change{sidecarChange("prod/web", 5, all, forLabels("app", "web", "version", "2")), vmChange("vm", "", 0, web)}, name: "vm", want: "",
		},
		"a selector without labels selects all": {
			changes: []Change{wide, sidecarChange("prod/all", 9, all, forLabels())}, name: "vm", want: "prod/all",
		},
		"a VM without a WorkloadEntry":       {changes: []Change{wide, forWeb}, name: "vm", want: "prod/wide"},
		"a VM found by its address":          {changes: []Change{forWeb, vmChange("vm", "10.0.0.5", 0, web)}, name: "other", address: "10.0.0.5", want: "prod/web"},
		"a VM found by an IPv6 address":      {changes: []Change{forWeb, vmChange("vm", "fd00:0::5", 0, web)}, address: "fd00::5", want: "prod/web"},
		"the name before the address":        {changes: []Change{wide, forWeb, vmChange("one", "10.0.0.5", 0, web), vmChange("two", "10.0.0.6", 0, db)}, name: "two", address: "10.0.0.5", want: "prod/wide"},
		"the oldest of an address":           {changes: []Change{wide, forWeb, vmChange("one", "10.0.0.5", 3, db), vmChange("two", "10.0.0.5", 2, web)}, address: "10.0.0.5", want: "prod/web"},
		"a host name is no address":          {changes: []Change{wide, forWeb, vmChange("one", "vm.example.com", 3, web)}, address: "", want: "prod/wide"},
		"the labels of the object, stronger": {changes: []Change{wide, forWeb, vmChange("vm", "", 0, db, func(w *networkingv1.WorkloadEntry) { w.Labels = map[string]string{"app": "web"} })}, name: "vm", want: "prod/web"},
		"a Sidecar that is gone":             {changes: []Change{wide, root, vanished(wide)}, want: "istio-system/root"},
		"a WorkloadEntry that is gone":       {changes: []Change{wide, forWeb, vmChange("vm", "10.0.0.5", 0, web), vanished(vmChange("vm", "", 0, nil))}, name: "vm", address: "10.0.0.5", want: "prod/wide"},
		"a WorkloadEntry of another address": {changes: []Change{wide, forWeb, vmChange("vm", "10.0.0.5", 0, web), vmChange("vm", "10.0.0.6", 0, web)}, address: "10.0.0.5", want: "prod/wide"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			sidecars := NewSidecars()
			translator := newTranslator(t, Options{Sidecars: sidecars})
			translator.Translate(test.changes...)
			_, by := sidecars.Scope("prod", test.name, peerAddress(test.address))
			got := strings.TrimPrefix(by.Namespace+"/"+by.Name, "/")
			if got != test.want {
				t.Errorf("Sidecar: got %q, want %q", got, test.want)
			}
		})
	}
}

func TestScopeOfASidecar(t *testing.T) {
	sees := func(scope *registry.Scope, namespace, host string) bool {
		t.Helper()
		r := registry.New(registry.Options{Scopes: true})
		err := r.AddSource("test").Apply(time.Now(), registry.Update{
			Object: registry.Object{Kind: KindServiceEntry, Namespace: namespace, Name: "name"},
			Resources: []registry.Resource{{
				Key: "key", Visibility: registry.Public(),
				Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: &registryv1.Service{Host: host, Ports: []*registryv1.Port{{Number: 80}}}}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return scope.Sees(r.Lookup(host)[0])
	}
	portOf := func(number uint32, protocol string) func(*networkingv1.Sidecar) {
		return func(s *networkingv1.Sidecar) {
			s.Spec.Egress[0].Port = &networking.SidecarPort{Number: number, Protocol: protocol}
		}
	}
	tests := map[string]struct {
		sidecar Change
		host    string
		want    bool
	}{
		"what it imports":                   {sidecarChange("prod/s", 0, []string{"dev/*"}), "dev/a.example.com", true},
		"what it does not":                  {sidecarChange("prod/s", 0, []string{"dev/*"}), "test/a.example.com", false},
		"the dot is the VM's namespace":     {sidecarChange("istio-system/s", 0, []string{"./*"}), "prod/a.example.com", true},
		"the dot is not the root namespace": {sidecarChange("istio-system/s", 0, []string{"./*"}), "istio-system/a.example.com", false},
		"no egress listeners":               {sidecarChange("prod/s", 0, nil, withoutEgress), "dev/a.example.com", true},
		"a listener without hosts":          {sidecarChange("prod/s", 0, nil), "dev/a.example.com", false},
		"a listener of the service's port":  {sidecarChange("prod/s", 0, []string{"*/*"}, portOf(80, "HTTP")), "dev/a.example.com", true},
		"a listener of another port":        {sidecarChange("prod/s", 0, []string{"*/*"}, portOf(81, "HTTP")), "dev/a.example.com", false},
		"a generic proxy's port":            {sidecarChange("prod/s", 0, []string{"*/*"}, portOf(81, "http_proxy")), "dev/a.example.com", true},
		"a Unix socket":                     {sidecarChange("prod/s", 0, []string{"*/*"}, portOf(0, "HTTP")), "dev/a.example.com", true},
		"what can be read beside the rest":  {sidecarChange("prod/s", 0, []string{"nonsense", "dev/*"}), "dev/a.example.com", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			sidecars := NewSidecars()
			newTranslator(t, Options{Sidecars: sidecars}).Translate(test.sidecar)
			scope, _ := sidecars.Scope("prod", "", netip.Addr{})
			namespace, host, _ := strings.Cut(test.host, "/")
			if got := sees(scope, namespace, host); got != test.want {
				t.Errorf("Sees: got %v, want %v", got, test.want)
			}
			if again, _ := sidecars.Scope("prod", "", netip.Addr{}); again != scope {
				t.Error("The scope is made anew for each VM, want one for all of a namespace")
			}
		})
	}
}

func TestSidecarsTellOfChanges(t *testing.T) {
	sidecars := NewSidecars()
	translator := newTranslator(t, Options{Sidecars: sidecars})
	web := map[string]string{"app": "web"}
	selecting := sidecarChange("prod/web", 0, []string{"dev/*"}, forLabels("app", "web"))
	steps := []struct {
		what  string
		do    func()
		tells bool
	}{
		{"a VM that no Sidecar can select", func() { translator.Translate(vmChange("vm", "10.0.0.5", 0, web)) }, false},
		{"a Sidecar", func() { translator.Translate(selecting) }, true},
		{"a VM that is as it was", func() { translator.Translate(vmChange("vm", "10.0.0.5", 0, web)) }, false},
		{"a VM's health", func() { translator.Translate(vmChange("vm", "10.0.0.5", 0, web, condition("Healthy", "True"))) }, false},
		{"a VM's labels", func() { translator.Translate(vmChange("vm", "10.0.0.5", 0, nil)) }, true},
		{"a VM's address", func() { translator.Translate(vmChange("vm", "10.0.0.6", 0, nil)) }, true},
		{"a VM that goes", func() { translator.Translate(vanished(vmChange("vm", "", 0, nil))) }, true},
		{"a Sidecar that was not there", func() { translator.Translate(vanished(sidecarChange("prod/other", 0, nil))) }, false},
		{"a Sidecar that goes", func() { translator.Translate(vanished(selecting)) }, true},
		{"the root namespace that it was", func() { sidecars.SetRootNamespace(DefaultRootNamespace) }, false},
		{"another root namespace", func() { sidecars.SetRootNamespace("mesh") }, true},
	}
	for _, step := range steps {
		changed := sidecars.Changed()
		step.do()
		told := false
		select {
		case <-changed:
			told = true
		default:
		}
		if told != step.tells {
			t.Errorf("%s: told: got %v, want %v", step.what, told, step.tells)
		}
	}
	if len(sidecars.namespaces) != 0 {
		t.Errorf("Namespaces that are left: got %d, want none", len(sidecars.namespaces))
	}
}

func TestRootNamespaceChanges(t *testing.T) {
	sidecars := NewSidecars()
	newTranslator(t, Options{Sidecars: sidecars}).Translate(
		sidecarChange("istio-system/former", 0, []string{"dev/*"}), sidecarChange("mesh/latter", 0, []string{"dev/*"}))
	for _, root := range []string{"istio-system", "mesh"} {
		sidecars.SetRootNamespace(root)
		if _, by := sidecars.Scope("prod", "", netip.Addr{}); by.Namespace != root {
			t.Errorf("Sidecar with root namespace %s: got %s", root, by)
		}
	}
}

func TestBadSidecars(t *testing.T) {
	sidecars := NewSidecars()
	translator := newTranslator(t, Options{Sidecars: sidecars})
	updates, problems := translator.Translate(sidecarChange("prod/bad", 0, []string{"prod/*", "reviews", "Prod/*", "*/short"}))
	if len(updates) != 1 || len(updates[0].Resources) != 0 {
		t.Errorf("Updates: got %v, want one of nothing", updates)
	}
	var got []string
	for _, problem := range problems {
		got = append(got, problem.Object.String()+" "+problem.Field+" "+problem.What+" "+problem.Effect.String())
	}
	want := []string{
		`Sidecar prod/bad spec.egress[0].hosts[1] "reviews": want namespace/dnsName left out, the rest is served`,
		`Sidecar prod/bad spec.egress[0].hosts[2] "Prod/*": namespace "Prod": want *, ., ~ or the name of a namespace left out, the rest is served`,
		`Sidecar prod/bad spec.egress[0].hosts[3] "*/short": host "short": want *, *.suffix or the full name of a service left out, the rest is served`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("Problems:\ngot  %q\nwant %q", got, want)
	}
}

// TestDestinations holds that what belongs to a service goes by that service's name and ports.
func TestDestinations(t *testing.T) {
	translator := newTranslator(t, Options{Sidecars: NewSidecars()})
	entry := entry(selects("app", "db"), hosts("db.example.com"), func(e *networkingv1.ServiceEntry) {
		e.Spec.Ports = []*networking.ServicePort{{Number: 3306, Name: "sql", Protocol: "TCP"}}
	})
	updates, _ := translator.Translate(
		present(service(headless)), present(slice()),
		present(entry), present(vm("vm-10.0.0.5", "10.0.0.5")),
	)
	var parts int
	for _, update := range updates {
		for _, resource := range update.Resources {
			switch {
			case resource.Body.GetEndpointSlice().GetService() != "":
				parts++
				slice := resource.Body.GetEndpointSlice()
				if want := slice.GetService() + "." + slice.GetNamespace() + ".svc.cluster.local"; resource.Destination.Host != want || resource.Destination.Ports != nil {
					t.Errorf("Destination of %s: got %+v, want %s and any port", resource.Key, resource.Destination, want)
				}
			case update.Object.Kind == KindWorkloadEntry:
				parts++
				if d := resource.Destination; d == nil || d.Host != "db.example.com" || !slices.Equal(d.Ports, []uint32{3306}) {
					t.Errorf("Destination of %s: got %+v, want db.example.com and port 3306", resource.Key, d)
				}
			case resource.Destination != nil:
				t.Errorf("Destination of %s: got %+v, want none", resource.Key, resource.Destination)
			}
		}
	}
	if parts != 3 {
		t.Errorf("Parts of services: got %d, want 3: a slice, a share in a host, a name below it", parts)
	}
}
