package watch

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// altered is a Service that has something changed, under its own key.
func altered(edit func(*registryv1.Service)) *registryv1.Resource {
	s := &registryv1.Service{Host: hostOf("b"), Namespace: view, Name: "b", Addresses: [][]byte{{10, 0, 0, 2}}}
	edit(s)
	body, err := proto.Marshal(&registryv1.Body{Body: &registryv1.Body_Service{Service: s}})
	if err != nil {
		panic(err)
	}
	return &registryv1.Resource{Key: registryv1.ServiceKey("", view, "b"), Body: body}
}

// absurdities are resources that no syncer sends, by what is wrong with them.
func absurdities() map[string]struct {
	resource *registryv1.Resource
	reason   Reason
} {
	return map[string]struct {
		resource *registryv1.Resource
		reason   Reason
	}{
		"no key":                          {&registryv1.Resource{Body: service("b", 2).GetBody()}, ReasonKey},
		"a key of two lines":              {&registryv1.Resource{Key: "Service/a\nb", Body: service("b", 2).GetBody()}, ReasonKey},
		"no body":                         {&registryv1.Resource{Key: "Service/prod/b"}, ReasonBody},
		"a body that does not decode":     {&registryv1.Resource{Key: "Service/prod/b", Body: []byte{0xff}}, ReasonBody},
		"a body beyond measure":           {&registryv1.Resource{Key: "Service/prod/b", Body: make([]byte, registryv1.MaxBody+1)}, ReasonSize},
		"addresses beyond measure":        {altered(func(s *registryv1.Service) { s.Addresses = slices.Repeat(s.Addresses, registryv1.MaxAddresses+1) }), ReasonSize},
		"a host that is no DNS name":      {altered(func(s *registryv1.Service) { s.Host = "a..b" }), ReasonName},
		"a host that moves the cursor":    {altered(func(s *registryv1.Service) { s.Host = "a\x1b[2J.b" }), ReasonName},
		"a host that is every name":       {altered(func(s *registryv1.Service) { s.Host = "*" }), ReasonName},
		"an address that does not parse":  {altered(func(s *registryv1.Service) { s.Addresses = [][]byte{{1, 2, 3}} }), ReasonAddress},
		"an address that is this machine": {altered(func(s *registryv1.Service) { s.Addresses = [][]byte{{0, 0, 0, 0}} }), ReasonAddress},
		"a port out of range":             {altered(func(s *registryv1.Service) { s.Ports = []*registryv1.Port{{Number: 1 << 20}} }), ReasonPort},
	}
}

// TestAbsurdResource: a delta with an absurd resource changes nothing and is counted by its reason. The VM comes
// again with a back-off, from where it is, so that what takes the resource's place is all that it needs.
func TestAbsurdResource(t *testing.T) {
	a, b, c := service("a", 1), service("b", 2), service("c", 3)
	for name, test := range absurdities() {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/snapshot"
			inVirtualTime(t, mirrorAt(t, 3, a), []string{first}, func(v *virtual) {
				t := v.t
				began := time.Now()
				var at []time.Duration
				for range 5 {
					call := v.only().next(t)
					at = append(at, time.Since(began))
					if got := call.hello.GetPosition().GetRevision(); got != 3 {
						t.Errorf("Hello has revision %d, want 3", got)
					}
					call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), step(3, c, test.resource))
					call.gone(t)
					mustHold(t, v.mirror, 3, "a")
				}
				want := []time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond, 1750 * time.Millisecond, 3750 * time.Millisecond}
				if !slices.Equal(at, want) {
					t.Errorf("streams were opened at %v, want %v", at, want)
				}
				if got := v.recorder.count("refused " + string(test.reason)); got != 5 {
					t.Errorf("observer saw %q, want %q five times", v.recorder.all(), "refused "+string(test.reason))
				}
				if err := v.mirror.Save(path); err != nil {
					t.Fatal(err)
				}
				call := v.only().next(t)
				call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), step(3, b, c), proof(4, a, b, c))
				v.settle()
				mustHold(t, v.mirror, 4, "a", "b", "c")
				for line := range strings.SplitSeq(v.log.String(), "\n") {
					if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) || len(line) > 2048 {
						t.Errorf("log line %.300q, want one printable line", line)
					}
				}
			})
			restarted := newMirror()
			if err := restarted.Load(path); err != nil {
				t.Fatalf("Load the snapshot: %v", err)
			}
			mustHold(t, restarted, 3, "a")
		})
	}
}

// TestAbsurdWholeView: a VM that holds nothing must ask for the whole view each time, but less and less often.
func TestAbsurdWholeView(t *testing.T) {
	absurd := absurdities()["a host that is no DNS name"].resource
	inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
		began := time.Now()
		var asked int
		for time.Since(began) < 10*time.Minute {
			_, call := v.next()
			asked++
			call.send(v.t, welcomeWith(registryv1.Mode_MODE_FULL))
			call.send(v.t, wholeView(3, service("a", 1), absurd)...)
			call.gone(v.t)
		}
		if limit := int(10*time.Minute/defaultLimits.retryCap) + 10; asked > limit {
			v.t.Errorf("whole views in ten minutes: got %d, want at most %d", asked, limit)
		}
		if v.mirror.State().Loaded() {
			v.t.Error("the mirror is loaded, want nothing of an absurd view")
		}
	})
}

// TestAbsurdCompare: what a Compare yields is held to the same rules, and the VM goes on to be compared.
func TestAbsurdCompare(t *testing.T) {
	a := service("a", 1)
	inVirtualTime(t, mirrorAt(t, 3, a), []string{first}, func(v *virtual) {
		for range 3 {
			call := v.only().next(v.t)
			if call.hello.GetHolding() == nil {
				v.t.Error("Hello has no holding, want that of the mirror")
			}
			call.send(v.t, compareWith(0), outcome(7, absurdities()["a port out of range"].resource))
			call.gone(v.t)
			mustHold(v.t, v.mirror, 3, "a")
		}
	})
}

// TestViewBeyondMeasure: deltas cannot make a mirror grow without end, each small enough for itself.
func TestViewBeyondMeasure(t *testing.T) {
	m := mirrorAt(t, 1, service("a", 1))
	recorder := newRecorder()
	s := newSession(m, recorder, trustPosition, defaultLimits.staged)
	if _, err := s.receive(welcomeWith(registryv1.Mode_MODE_RESUME)); err != nil {
		t.Fatal(err)
	}
	// A kind from the future is held as it came.
	body := append([]byte{0x82, 0x01, 0x80, 0x80, 0x3c}, bytes.Repeat([]byte{'x'}, 60<<14)...)
	for revision := uint64(1); ; revision++ {
		before := m.State()
		_, err := s.receive(step(revision, &registryv1.Resource{Key: "Future/" + strings.Repeat("k", int(revision)), Body: body}))
		if err != nil {
			if got := recorder.count("refused size"); got != 1 || m.State() != before {
				t.Errorf("after %d deltas: observer saw %d of size (%v), want one, and the mirror as it was", revision, got, err)
			}
			break
		}
		if held := int(revision) * len(body); held > mirror.MaxBytes {
			t.Fatalf("the mirror holds %d bytes, want at most %d", held, mirror.MaxBytes)
		}
	}
}

// TestLastWordsBeyondMeasure: why a syncer ends a stream is shown to people, so it is a line that can be printed.
func TestLastWordsBeyondMeasure(t *testing.T) {
	for name, words := range map[string]string{
		"that move the cursor":  "go away\x1b[2J\n[ERROR] forged\u202e",
		"of a thousand letters": strings.Repeat("x", 1000),
		"of a megabyte":         strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, mirrorAt(t, 3, service("a", 1)), []string{first}, func(v *virtual) {
				call := v.only().next(v.t)
				call.end <- status.Error(codes.FailedPrecondition, words)
				call.gone(v.t)
				v.settle()
				got := v.client.Status().LastError
				if got == "" || len(got) > 1024 || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
					v.t.Errorf("LastError: got %.2000q, want a line that can be printed", got)
				}
				mustHold(v.t, v.mirror, 3, "a")
			})
		})
	}
}

// TestDifferingBucketsBeyondMeasure: more buckets than there are cannot all be different ones.
func TestDifferingBucketsBeyondMeasure(t *testing.T) {
	s := newSession(mirrorAt(t, 3, service("a", 1)), Ignore{}, trustPosition, defaultLimits.staged)
	if _, err := s.receive(compareWith(4)); err != nil {
		t.Fatal(err)
	}
	_, err := s.receive(differingBuckets(0, 1, 2, 3, 4))
	if refused, is := errors.AsType[*refusal](err); !is || refused.reason != ReasonFrames {
		t.Errorf("error is %v, want reason %q", err, ReasonFrames)
	}
}
