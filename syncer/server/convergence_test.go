package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// TestEveryVMConverges changes a mesh at random under VMs that come, go and come back, with logs that
// hold all, some or next to nothing of it. Each VM must end with just what its namespace sees; on the way
// every heartbeat is held against what was sent.
func TestEveryVMConverges(t *testing.T) {
	tests := map[string]struct {
		logBytes int
		// What must happen on the way. In between both may, or not.
		resumes, compacted bool
	}{
		"long log":       {1 << 20, true, false},
		"short log":      {6000, false, false},
		"next to no log": {600, false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			logBytes := test.logBytes
			random := rand.New(rand.NewPCG(1, uint64(logBytes)))
			s := startUnsynced(t, registry.Options{LogBytes: logBytes}, func(o *Options) {
				o.HeartbeatInterval = 3 * time.Millisecond
				o.FrameBytes = 500
			})
			s.source.Synced()
			namespaces := []string{"", "dev", "prod", "test"}
			vms := map[string]*vm{}
			for _, namespace := range namespaces {
				vms[namespace] = watch(t, s.dial(), &registryv1.Hello{Namespace: namespace})
			}
			for range 40 {
				for range random.IntN(12) {
					s.apply(randomUpdate(random))
				}
				namespace := namespaces[random.IntN(len(namespaces))]
				vms[namespace] = s.comeBack(vms[namespace], namespace, random.IntN(4))
			}
			// A change that all see, so that all know when the rest is there.
			s.apply(service("marker", "marker", "10.0.0.9", registry.Public()))
			last := s.registry.Revision()
			for namespace, v := range vms {
				v.until("the last revision", func() bool { return v.revision == last && v.heartbeat.GetRevision() == last })
				want := map[string]string{}
				for _, entry := range s.registry.Content(namespace).Entries {
					want[entry.Key] = string(entry.Body)
				}
				got := map[string]string{}
				for key, body := range v.resources {
					got[key] = string(body)
				}
				if !maps.Equal(got, want) {
					t.Errorf("a VM of %q holds %v, want the keys of %v", namespace, v.keys(), want)
				}
			}
			if counterValue(t, s.server.metrics.syncs.WithLabelValues(modeCompare)) == 0 {
				t.Error("no VM was compared: the test shows less than it says")
			}
			if resumed := counterValue(t, s.server.metrics.syncs.WithLabelValues(modeResume)) > 0; test.resumes && !resumed {
				t.Error("no VM resumed: the test shows less than it says")
			}
			if compacted := counterValue(t, s.server.metrics.compacted) > 0; test.compacted && !compacted {
				t.Error("no stream fell off the log: the test shows less than it says")
			}
		})
	}
}

func randomUpdate(random *rand.Rand) registry.Update {
	visibilities := []registry.Visibility{
		registry.Public(), registry.Nobody(), registry.VisibleTo("dev"), registry.VisibleTo("prod"), registry.VisibleTo("dev", "prod"),
	}
	name := fmt.Sprintf("service-%d", random.IntN(12))
	if random.IntN(4) == 0 {
		return gone("prod", name)
	}
	return service("prod", name, fmt.Sprintf("10.0.0.%d", random.IntN(5)), visibilities[random.IntN(len(visibilities))])
}

// comeBack ends a VM's stream, or not, and opens another with what it holds, to resume or to be compared,
// or with nothing.
func (s *syncer) comeBack(v *vm, namespace string, how int) *vm {
	s.t.Helper()
	if how == 0 || v.revision == 0 && how == 1 {
		return v
	}
	if err := v.stream.CloseSend(); err != nil {
		s.t.Fatal(err)
	}
	again := openStream(s.t, s.dial())
	hello := &registryv1.Hello{Namespace: namespace}
	if last := len(v.frames) - 1; how != 2 && (last < 0 || !v.frames[last].GetMore()) {
		again.revision, again.resources = v.revision, v.resources
		if how == 1 {
			hello.Position = v.position()
		} else {
			again.comparing, hello.Compare, hello.Holding = true, true, v.holding(namespace)
		}
	}
	again.say(helloOf(hello))
	again.until("the welcome", func() bool { return again.welcome != nil })
	again.compare()
	return again
}

func TestShutdownDoesNotWaitForASlowVM(t *testing.T) {
	s := start(t, func(o *Options) { o.FrameBytes = 32 << 10; o.ShutdownTimeout = 50 * time.Millisecond })
	var updates []registry.Update
	for i := range 5000 {
		updates = append(updates, service("prod", fmt.Sprintf("service-%05d", i), "10.0.0.1", registry.Public()))
	}
	s.apply(updates...)
	slow := openStream(t, s.dial())
	slow.say(helloOf(&registryv1.Hello{}))
	eventually(t, "the slow VM is sent frames", func() bool { return counterValue(t, s.server.metrics.frames.WithLabelValues(modeFull)) > 1 })
	s.stop() // it fails the test when that takes long
	if got := len(s.server.Watchers()); got != 0 {
		t.Errorf("%d VMs watch after the stop", got)
	}
}
