package registryv1

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestCandidateHosts(t *testing.T) {
	tests := map[string][]string{
		"a.b.c": {"a.b.c", "*.b.c", "*.c"},
		"c":     {"c"},
		"":      {""},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			if got := slices.Collect(CandidateHosts(name)); !slices.Equal(got, want) {
				t.Errorf("CandidateHosts(%q): got %q, want %q", name, got, want)
			}
		})
	}
}

func TestKeysAreDistinct(t *testing.T) {
	keys := []string{
		ServiceKey("", "a", "b"),
		ServiceKey("east", "a", "b"),
		ServiceEntryKey("", "a", "b", "c.example.com"),
		ServiceEntryKey("", "a", "b", "*.example.com"),
		EndpointSliceKey("", "a", "b"),
		NamespaceKey("", "a"),
		NamespaceKey("east", "a"),
	}
	slices.Sort(keys)
	if got := len(slices.Compact(slices.Clone(keys))); got != len(keys) {
		t.Errorf("Keys: got %d distinct ones of %q, want all", got, keys)
	}
}

const goldenDigest = 0x39ba0eb84ce2bf5f

func TestDigest(t *testing.T) {
	if DigestResource("ab", []byte("c")) == DigestResource("a", []byte("bc")) {
		t.Error("A key's tail passes for a body's head")
	}
	a, b := DigestResource("a", nil), DigestResource("b", []byte("x"))
	var forward, backward Digest
	forward.Add(a)
	forward.Add(b)
	backward.Add(b)
	backward.Add(a)
	if forward != backward {
		t.Errorf("The digest depends on order: %x and %x", forward, backward)
	}
	forward.Remove(a)
	if forward != b {
		t.Errorf("After Remove: got %x, want %x", forward, b)
	}
	// The value is on the wire and on disk: it may not change.
	if got, want := DigestResource("Service/default/reviews", []byte("body")), Digest(goldenDigest); got != want {
		t.Errorf("DigestResource: got %#x, want %#x", got, want)
	}
}

func claim(origin Origin, namespace, name string, created int64) *Service {
	return &Service{Origin: origin, Namespace: namespace, Name: name, CreatedAt: created}
}

func byName(s *Service) *Service {
	s.ExportedByName = true
	return s
}

func TestResolveClaims(t *testing.T) {
	const kubernetes, entry = Origin_ORIGIN_KUBERNETES, Origin_ORIGIN_SERVICE_ENTRY
	tests := map[string]struct {
		claims  []*Service // in order of precedence
		winners int
		reason  string
	}{
		"none":     {nil, 0, ""},
		"only one": {[]*Service{claim(entry, "a", "x", 1)}, 1, ""},
		"own namespace before all": {
			[]*Service{claim(entry, "vm", "x", 9), claim(kubernetes, "a", "x", 1)}, 1, ReasonOwnNamespace,
		},
		"kubernetes before older ServiceEntry": {
			[]*Service{claim(kubernetes, "b", "x", 9), claim(entry, "a", "x", 1)}, 1, ReasonOrigin,
		},
		"kubernetes before ServiceEntry of one namespace": {
			[]*Service{claim(kubernetes, "vm", "x", 9), claim(entry, "vm", "y", 1)}, 1, ReasonOrigin,
		},
		"exported by name before older that everyone sees": {
			[]*Service{byName(claim(entry, "b", "x", 9)), claim(entry, "a", "x", 1)}, 1, ReasonExported,
		},
		"own namespace before exported by name": {
			[]*Service{claim(entry, "vm", "x", 9), byName(claim(entry, "a", "x", 1))}, 1, ReasonOwnNamespace,
		},
		"kubernetes before exported by name": {
			[]*Service{claim(kubernetes, "b", "x", 9), byName(claim(entry, "a", "x", 1))}, 1, ReasonOrigin,
		},
		"the oldest": {
			[]*Service{claim(entry, "b", "x", 1), claim(entry, "a", "x", 2)}, 1, ReasonOldest,
		},
		"ties by namespace": {
			[]*Service{claim(entry, "a", "x", 1), claim(entry, "b", "w", 1)}, 1, ReasonName,
		},
		"ServiceEntries of the winning namespace join": {
			[]*Service{claim(entry, "b", "x", 1), claim(entry, "b", "y", 5), claim(entry, "a", "x", 3)}, 2, ReasonOldest,
		},
		"all join": {
			[]*Service{claim(entry, "b", "x", 1), claim(entry, "b", "y", 5)}, 2, "",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				shuffled := slices.Clone(tc.claims)
				rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
				ruling := ResolveClaims(shuffled, "vm")
				if len(ruling.Winners) != tc.winners || ruling.Reason != tc.reason {
					t.Fatalf("Got %d winners because %q, want %d because %q", len(ruling.Winners), ruling.Reason, tc.winners, tc.reason)
				}
				for _, winner := range ruling.Winners {
					if !slices.Contains(tc.claims[:min(len(tc.claims), 1)], winner) && winner.GetNamespace() != tc.claims[0].GetNamespace() {
						t.Errorf("Winner %v is not of the namespace of %v", winner, tc.claims[0])
					}
				}
				if len(tc.claims) > 0 && ruling.Winners[0] != tc.claims[0] {
					t.Errorf("First winner: got %v, want %v", ruling.Winners[0], tc.claims[0])
				}
			}
		})
	}
}
