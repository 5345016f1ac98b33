package registry

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func namespaceBody(name string) *registryv1.Body {
	return &registryv1.Body{Body: &registryv1.Body_Namespace{Namespace: &registryv1.Namespace{Name: name}}}
}

func serviceBody(host string, address ...byte) *registryv1.Body {
	return &registryv1.Body{Body: &registryv1.Body_Service{Service: &registryv1.Service{Host: host, Addresses: [][]byte{address}}}}
}

func sliceBody(service string) *registryv1.Body {
	return &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: &registryv1.EndpointSlice{Namespace: "prod", Service: service}}}
}

func object(name string) Object { return Object{Kind: "Service", Namespace: "prod", Name: name} }

// update is the object name with one resource of the same name.
func update(name string, visibility Visibility, body *registryv1.Body) Update {
	return Update{Object: object(name), Resources: []Resource{{Key: name, Visibility: visibility, Body: body}}}
}

func gone(name string) Update { return Update{Object: object(name)} }

func mustApply(t *testing.T, s *Source, updates ...Update) {
	t.Helper()
	if err := s.Apply(time.Now(), updates...); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

func keysOf(entries []*Entry) []string {
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	return keys
}

func TestApplyIsOneRevision(t *testing.T) {
	tests := map[string]struct {
		updates []Update
		want    uint64 // revisions made
	}{
		"one object":                 {[]Update{update("b", Public(), serviceBody("b"))}, 1},
		"several objects":            {[]Update{update("b", Public(), serviceBody("b")), update("c", Public(), serviceBody("c"))}, 1},
		"the same object again":      {[]Update{update("a", Public(), serviceBody("a"))}, 0},
		"another body":               {[]Update{update("a", Public(), serviceBody("a", 1))}, 1},
		"another visibility":         {[]Update{update("a", Nobody(), serviceBody("a"))}, 1},
		"an object gone":             {[]Update{gone("a")}, 1},
		"an object that never was":   {[]Update{gone("x")}, 0},
		"nothing":                    {nil, 0},
		"came and went within Apply": {[]Update{update("b", Public(), serviceBody("b")), gone("b")}, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := New(Options{})
			s := r.AddSource("test")
			mustApply(t, s, update("a", Public(), serviceBody("a")))
			before := r.Revision()
			mustApply(t, s, tc.updates...)
			if got := r.Revision() - before; got != tc.want {
				t.Errorf("Revisions made: got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	tests := map[string]struct {
		update Update
		want   string
	}{
		"a key of another object": {
			Update{Object: object("b"), Resources: []Resource{{Key: "a", Body: serviceBody("a")}}},
			`apply Service prod/b: key "a" belongs to Service prod/a`,
		},
		"one key twice": {
			Update{Object: object("b"), Resources: []Resource{{Key: "b", Body: serviceBody("b")}, {Key: "b", Body: serviceBody("b")}}},
			`apply Service prod/b: two resources with key "b"`,
		},
		"no key":  {Update{Object: object("b"), Resources: []Resource{{Body: serviceBody("b")}}}, "needs a key and a body"},
		"no body": {Update{Object: object("b"), Resources: []Resource{{Key: "b"}}}, "needs a key and a body"},
		"not UTF-8": {
			update("b", Public(), serviceBody("b\xff")),
			`apply Service prod/b: encode resource "b"`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := New(Options{})
			s := r.AddSource("test")
			mustApply(t, s, update("a", Public(), serviceBody("a")))
			err := s.Apply(time.Now(), tc.update, update("c", Public(), serviceBody("c")))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Error: got %v, want one with %q", err, tc.want)
			}
			if got, want := keysOf(r.Content("any").Entries), []string{"a", "c"}; !slices.Equal(got, want) {
				t.Errorf("The rest must be applied and nothing lost: got %q, want %q", got, want)
			}
		})
	}
}

func TestChangesOfAView(t *testing.T) {
	tests := map[string]struct {
		before, after     []Update
		upserts, removals []string
	}{
		"created": {
			after:   []Update{update("a", Public(), serviceBody("a"))},
			upserts: []string{"a"},
		},
		"created for the view": {
			after:   []Update{update("a", VisibleTo("vm", "x"), serviceBody("a"))},
			upserts: []string{"a"},
		},
		"created for others": {
			after: []Update{update("a", VisibleTo("x"), serviceBody("a"))},
		},
		"changed": {
			before:  []Update{update("a", Public(), serviceBody("a"))},
			after:   []Update{update("a", Public(), serviceBody("a", 1))},
			upserts: []string{"a"},
		},
		"changed and changed back": {
			before: []Update{update("a", Public(), serviceBody("a"))},
			after:  []Update{update("a", Public(), serviceBody("a", 1)), update("a", Public(), serviceBody("a"))},
		},
		"removed": {
			before:   []Update{update("a", Public(), serviceBody("a"))},
			after:    []Update{gone("a")},
			removals: []string{"a"},
		},
		"removed and created": {
			before:  []Update{update("a", Public(), serviceBody("a"))},
			after:   []Update{gone("a"), update("a", Public(), serviceBody("a", 2))},
			upserts: []string{"a"},
		},
		"created and removed": {
			after: []Update{update("a", Public(), serviceBody("a")), gone("a")},
		},
		"removed, never visible": {
			before: []Update{update("a", VisibleTo("x"), serviceBody("a"))},
			after:  []Update{gone("a")},
		},
		"no longer exported": {
			before:   []Update{update("a", Public(), serviceBody("a"))},
			after:    []Update{update("a", VisibleTo("x"), serviceBody("a"))},
			removals: []string{"a"},
		},
		"newly exported": {
			before:  []Update{update("a", Nobody(), serviceBody("a"))},
			after:   []Update{update("a", VisibleTo("vm"), serviceBody("a"))},
			upserts: []string{"a"},
		},
		"exported to more, seen already": {
			before: []Update{update("a", VisibleTo("vm"), serviceBody("a"))},
			after:  []Update{update("a", Public(), serviceBody("a"))},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := New(Options{})
			s := r.AddSource("test")
			mustApply(t, s, tc.before...)
			from := r.Revision()
			for _, u := range tc.after {
				mustApply(t, s, u)
			}
			changes, err := r.Changes("vm", from, r.Revision())
			if err != nil {
				t.Fatalf("Changes: %v", err)
			}
			if got := keysOf(changes.Upserts); !slices.Equal(got, tc.upserts) {
				t.Errorf("Upserts: got %q, want %q", got, tc.upserts)
			}
			if !slices.Equal(changes.Removals, tc.removals) {
				t.Errorf("Removals: got %q, want %q", changes.Removals, tc.removals)
			}
			if got, want := changes.ObservedAt.IsZero(), len(tc.upserts)+len(tc.removals) == 0; got != want {
				t.Errorf("ObservedAt is zero: got %t, want %t", got, want)
			}
		})
	}
}

func TestLogIsBounded(t *testing.T) {
	r := New(Options{LogBytes: 10 * (recordOverhead + 16)})
	s := r.AddSource("test")
	for i := range 100 {
		mustApply(t, s, update("a", Public(), serviceBody("a", byte(i))))
	}
	last := r.Revision()
	if _, err := r.Changes("vm", last-5, last); err != nil {
		t.Errorf("Changes of the last five revisions: %v", err)
	}
	if _, err := r.Changes("vm", 1, last); !errors.Is(err, ErrCompacted) {
		t.Errorf("Changes since the first revision: got %v, want %v", err, ErrCompacted)
	}
	if _, err := r.Changes("vm", last, last+1); !errors.Is(err, ErrFuture) {
		t.Errorf("Changes of the next revision: got %v, want %v", err, ErrFuture)
	}
	if got, limit := r.Stats().LogBytes, 10*(recordOverhead+16); got > limit {
		t.Errorf("Log bytes: got %d, want at most %d", got, limit)
	}
}

func TestChangeLargerThanTheLog(t *testing.T) {
	r := New(Options{LogBytes: 1})
	s := r.AddSource("test")
	mustApply(t, s, update("a", Public(), serviceBody("a")))
	mustApply(t, s, update("b", Public(), serviceBody("b")))
	if _, err := r.Changes("vm", 1, 2); !errors.Is(err, ErrCompacted) {
		t.Errorf("Changes: got %v, want %v", err, ErrCompacted)
	}
	if changes, err := r.Changes("vm", 2, 2); err != nil || len(changes.Upserts) != 0 {
		t.Errorf("Changes of nothing: got %v, %v, want none", changes, err)
	}
	if got := r.Revision(); got != 2 {
		t.Errorf("Revision: got %d, want 2", got)
	}
}

// TestViewsFollowTheRegistry holds random histories against the plainest model: a watcher that
// follows by Changes, at random intervals, has what Content says and what Proof proves; and Content
// is what the last state of each object makes visible.
func TestViewsFollowTheRegistry(t *testing.T) {
	visibilities := []Visibility{Public(), Nobody(), VisibleTo("vm"), VisibleTo("other"), VisibleTo("vm", "other")}
	for seed := range uint64(50) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			r := New(Options{})
			s := r.AddSource("test")
			model := map[string]Update{}
			cursors := map[string]uint64{"vm": 0, "other": 0, "third": 0}
			mirrors := map[string]map[string]registryv1.Digest{"vm": {}, "other": {}, "third": {}}
			for range 200 {
				var batch []Update
				for range 1 + random.IntN(4) {
					name := fmt.Sprintf("object-%d", random.IntN(12))
					u := gone(name)
					for k := range random.IntN(4) {
						key := fmt.Sprintf("%s/%d", name, k)
						u.Resources = append(u.Resources, Resource{
							Key:        key,
							Visibility: visibilities[random.IntN(len(visibilities))],
							Body:       serviceBody(key, byte(random.IntN(3))),
						})
					}
					model[name] = u
					batch = append(batch, u)
				}
				mustApply(t, s, batch...)
				for view := range cursors {
					if random.IntN(3) == 0 {
						follow(t, r, view, cursors, mirrors[view])
					}
				}
			}
			for view := range cursors {
				follow(t, r, view, cursors, mirrors[view])
				want := map[string]registryv1.Digest{}
				for _, u := range model {
					entries, err := encode(u, false)
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range entries {
						if e.Visibility.In(view) {
							want[e.Key] = e.Digest
						}
					}
				}
				if !maps.Equal(mirrors[view], want) {
					t.Errorf("View %q: got %v, want %v", view, mirrors[view], want)
				}
			}
		})
	}
}

func follow(t *testing.T, r *Registry, view string, cursors map[string]uint64, mirror map[string]registryv1.Digest) {
	t.Helper()
	changes, err := r.Changes(view, cursors[view], r.Revision())
	if err != nil {
		t.Fatalf("Changes(%q): %v", view, err)
	}
	for _, e := range changes.Upserts {
		mirror[e.Key] = e.Digest
	}
	for _, key := range changes.Removals {
		if _, found := mirror[key]; !found {
			t.Fatalf("View %q is told to remove %q, which it never had", view, key)
		}
		delete(mirror, key)
	}
	cursors[view] = changes.To

	content := map[string]registryv1.Digest{}
	for _, e := range r.Content(view).Entries {
		content[e.Key] = e.Digest
	}
	if !maps.Equal(mirror, content) {
		t.Fatalf("View %q after Changes: got %v, want Content %v", view, mirror, content)
	}
	var digest registryv1.Digest
	for _, d := range mirror {
		digest.Add(d)
	}
	want := Proof{Revision: r.Revision(), Digest: digest, Resources: len(mirror)}
	if got := r.Proof(view); got != want {
		t.Fatalf("Proof(%q): got %+v, want %+v", view, got, want)
	}
}

func TestChangedWakesWatchers(t *testing.T) {
	r := New(Options{})
	s := r.AddSource("test")
	waiting := r.Changed(0)
	select {
	case <-waiting:
		t.Fatal("Changed(0) is closed before the first change")
	default:
	}
	mustApply(t, s, update("a", Public(), serviceBody("a")))
	<-waiting
	<-r.Changed(0)
	select {
	case <-r.Changed(1):
		t.Error("Changed(1) is closed at revision 1")
	default:
	}
}

func TestReadyWaitsForEverySource(t *testing.T) {
	r := New(Options{})
	first, second := r.AddSource("first"), r.AddSource("second")
	first.Synced()
	first.Synced()
	select {
	case <-r.Ready():
		t.Fatal("Ready with one source of two synced")
	default:
	}
	second.Synced()
	<-r.Ready()
}

func TestCurrentAtStandsStillWithoutHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{})
		healthy, ailing := r.AddSource("healthy"), r.AddSource("ailing")
		healthy.SetHealthy(true)
		fell := time.Now()
		ailing.SetHealthy(false)
		time.Sleep(time.Minute)
		ailing.SetHealthy(false)
		if got := r.CurrentAt(); !got.Equal(fell) {
			t.Errorf("CurrentAt while a source ails: got %v, want %v", got, fell)
		}
		if got := r.Sources()[0].CurrentAt; !got.Equal(time.Now()) {
			t.Errorf("CurrentAt of the healthy source: got %v, want now", got)
		}
		ailing.SetHealthy(true)
		if got := r.CurrentAt(); !got.Equal(time.Now()) {
			t.Errorf("CurrentAt after recovery: got %v, want now", got)
		}
	})
}

func TestLookup(t *testing.T) {
	r := New(Options{})
	s := r.AddSource("test")
	mustApply(t, s,
		update("b", Public(), serviceBody("same.example.com")),
		update("a", VisibleTo("x"), serviceBody("same.example.com")),
		update("w", Public(), serviceBody("*.example.com")),
		update("slice-2", Public(), sliceBody("db")),
		update("slice-1", Public(), sliceBody("db")),
		update("ns", Public(), namespaceBody("prod")),
	)
	tests := map[string]struct{ got, want []string }{
		"claims of a host":   {keysOf(r.Lookup("same.example.com")), []string{"a", "b"}},
		"a wildcard":         {keysOf(r.Lookup("*.example.com")), []string{"w"}},
		"an unknown host":    {keysOf(r.Lookup("x.example.com")), []string{}},
		"slices":             {keysOf(r.Slices("", "prod", "db")), []string{"slice-1", "slice-2"}},
		"slices of no other": {keysOf(r.Slices("east", "prod", "db")), []string{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if !slices.Equal(tc.got, tc.want) {
				t.Errorf("Got %q, want %q", tc.got, tc.want)
			}
		})
	}
	if !r.NamespaceExists("prod") || r.NamespaceExists("dev") {
		t.Error("NamespaceExists: want prod alone")
	}
	mustApply(t, s, gone("a"), gone("b"), gone("slice-1"), gone("ns"))
	if got := r.Lookup("same.example.com"); len(got) != 0 {
		t.Errorf("Claims after removal: got %q, want none", keysOf(got))
	}
	if got, want := keysOf(r.Slices("", "prod", "db")), []string{"slice-2"}; !slices.Equal(got, want) {
		t.Errorf("Slices after removal: got %q, want %q", got, want)
	}
	if r.NamespaceExists("prod") {
		t.Error("Namespace prod exists after removal")
	}
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := New(Options{})
			s := r.AddSource("bench")
			for i := range size {
				name := fmt.Sprintf("service-%d", i)
				if err := s.Apply(time.Now(), update(name, Public(), serviceBody(name+".example.com", 1))); err != nil {
					b.Fatal(err)
				}
			}
			for i := byte(0); b.Loop(); i++ {
				if err := s.Apply(time.Now(), update("service-7", Public(), serviceBody("service-7.example.com", i, i/2+1))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
