package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// holding is what the VM holds of a view.
func (v *vm) holding(view string) *registryv1.Holding {
	h := &registryv1.Holding{View: view, ClusterDomain: "cluster.local", Resources: uint64(len(v.resources))}
	for key, body := range v.resources {
		h.Digest += uint64(registryv1.DigestResource(key, body))
	}
	return h
}

func (v *vm) bucketDigests(count int) *registryv1.WatchRequest {
	digests := make([]uint32, count)
	for key, body := range v.resources {
		digests[registryv1.Bucket(key, count)] += registryv1.DigestResource(key, body).Short()
	}
	return bucketDigestsOf(digests)
}

// list is what the VM holds in the buckets that differ.
func (v *vm) list() (counts, digests []uint32) {
	v.listed = nil
	for _, bucket := range v.differing.GetBuckets() {
		before := len(v.listed)
		for key, body := range v.resources {
			if registryv1.Bucket(key, int(v.welcome.GetBuckets())) == int(bucket) {
				v.listed = append(v.listed, key)
				digests = append(digests, registryv1.DigestResource(key, body).Short())
			}
		}
		counts = append(counts, uint32(len(v.listed)-before))
	}
	return counts, digests
}

// resourceDigests is what the VM holds in the buckets that differ, in one message.
func (v *vm) resourceDigests() *registryv1.WatchRequest {
	counts, digests := v.list()
	return resourceDigestsOf(false, counts, digests...)
}

func bucketDigestsOf(digests []uint32) *registryv1.WatchRequest {
	return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_BucketDigests{BucketDigests: &registryv1.BucketDigests{Digests: digests}}}
}

func resourceDigestsOf(more bool, counts []uint32, digests ...uint32) *registryv1.WatchRequest {
	return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_ResourceDigests{
		ResourceDigests: &registryv1.ResourceDigests{Counts: counts, Digests: digests, More: more},
	}}
}

// returning is a VM of prod that comes back with what entries hold, and has been welcomed.
func (s *syncer) returning(entries []*registry.Entry) *vm {
	s.t.Helper()
	v := openStream(s.t, s.dial())
	v.comparing = true
	for _, entry := range entries {
		v.resources[entry.Key] = entry.Body
	}
	v.say(helloOf(&registryv1.Hello{Namespace: "prod", Compare: true, Holding: v.holding("prod")}))
	v.until("the welcome", func() bool { return v.welcome != nil })
	return v
}

// compare plays the VM's side up to the first heartbeat.
func (v *vm) compare() {
	v.t.Helper()
	if count := int(v.welcome.GetBuckets()); count > 0 {
		v.say(v.bucketDigests(count))
		v.until("differing buckets", func() bool { return v.differing != nil })
		if len(v.differing.GetBuckets()) > 0 {
			v.say(v.resourceDigests())
		}
	}
	v.until("the first heartbeat", func() bool { return v.heartbeat != nil })
}

// town is some Services, most of them for all.
func town(count int) []registry.Update {
	var updates []registry.Update
	for i := range count {
		visibility := registry.Public()
		if i%5 == 0 {
			visibility = registry.VisibleTo("prod", "dev")
		}
		updates = append(updates, service("prod", fmt.Sprintf("service-%d", i), "10.0.0.1", visibility))
	}
	return updates
}

func TestCompareIsChosen(t *testing.T) {
	s := start(t, nil)
	s.apply(town(100)...)
	proof := s.registry.Proof("prod")
	holding := func(edit func(*registryv1.Holding)) *registryv1.Holding {
		h := &registryv1.Holding{View: "prod", ClusterDomain: "cluster.local", Digest: uint64(proof.Digest), Resources: 100}
		edit(h)
		return h
	}
	same := holding(func(*registryv1.Holding) {})
	other := holding(func(h *registryv1.Holding) { h.Digest++ })
	now := &registryv1.Position{Generation: s.registry.Generation(), Revision: 1, View: "prod"}
	const compare, full = registryv1.Mode_MODE_COMPARE, registryv1.Mode_MODE_FULL
	tests := map[string]struct {
		hello   *registryv1.Hello
		want    registryv1.Mode
		buckets uint32
	}{
		"all the same":           {&registryv1.Hello{Compare: true, Holding: same}, compare, 0},
		"something differs":      {&registryv1.Hello{Compare: true, Holding: other}, compare, uint32(registryv1.BucketsFor(100))},
		"the log has it":         {&registryv1.Hello{Compare: true, Holding: other, Position: now}, registryv1.Mode_MODE_RESUME, 0},
		"another generation":     {&registryv1.Hello{Compare: true, Holding: same, Position: &registryv1.Position{Generation: "other", Revision: 9, View: "prod"}}, compare, 0},
		"a VM that cannot":       {&registryv1.Hello{Holding: same}, full, 0},
		"holds nothing":          {&registryv1.Hello{Compare: true}, full, 0},
		"another view":           {&registryv1.Hello{Compare: true, Holding: holding(func(h *registryv1.Holding) { h.View = "dev" })}, full, 0},
		"another cluster domain": {&registryv1.Hello{Compare: true, Holding: holding(func(h *registryv1.Holding) { h.ClusterDomain = "other" })}, full, 0},
		"holds much too little":  {&registryv1.Hello{Compare: true, Holding: holding(func(h *registryv1.Holding) { h.Resources = 10 })}, full, 0},
		"holds much too much":    {&registryv1.Hello{Compare: true, Holding: holding(func(h *registryv1.Holding) { h.Resources = 100_000 })}, full, 0},
		"holds an absurd lot":    {&registryv1.Hello{Compare: true, Holding: holding(func(h *registryv1.Holding) { h.Resources = 1<<64 - 1 })}, full, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := openStream(t, s.dial())
			v.revision, v.comparing = 1, true
			test.hello.Namespace = "prod"
			v.say(helloOf(test.hello))
			v.until("the welcome", func() bool { return v.welcome != nil })
			if got := v.welcome; got.GetMode() != test.want || got.GetBuckets() != test.buckets {
				t.Errorf("mode = %v with %d buckets, want %v with %d", got.GetMode(), got.GetBuckets(), test.want, test.buckets)
			}
		})
	}
}

// TestCompareNeedsNoPlaceWhereNothingDiffers has every place taken by somebody else.
func TestCompareNeedsNoPlaceWhereNothingDiffers(t *testing.T) {
	s := start(t, func(o *Options) { o.FullSyncs = 1 })
	s.apply(town(100)...)
	release, err := s.server.admit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	v := s.returning(s.registry.Content("prod").Entries)
	v.compare()
	if len(v.frames) != 1 || len(v.frames[0].GetUpserts())+len(v.frames[0].GetRemovedPlaces()) > 0 {
		t.Errorf("sent %v, want one delta with nothing in it", v.frames)
	}
	if got := s.server.Watchers()[0].Mode; got != modeCompare {
		t.Errorf("mode = %q, want %q", got, modeCompare)
	}
}

// TestCompareIsOfOneRevision changes the registry between all messages of a Compare. Its view is of a size that
// is sent whole when a stream falls off the log.
func TestCompareIsOfOneRevision(t *testing.T) {
	tests := map[string]struct {
		logBytes int
		want     string // the mode that it ends in
	}{
		"the log holds what comes in between": {1 << 20, modeCompare},
		"the log does not":                    {1, modeFull},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				random := rand.New(rand.NewPCG(seed, 5))
				s := startUnsynced(t, registry.Options{LogBytes: test.logBytes}, nil)
				s.source.Synced()
				s.apply(town(200)...)
				before := s.registry.Content("prod").Entries
				change := func() {
					s.apply(service("prod", fmt.Sprintf("new-%d", s.registry.Revision()), "10.0.0.3", registry.Public()))
					for range 1 + random.IntN(20) {
						name := fmt.Sprintf("service-%d", random.IntN(220))
						if random.IntN(3) == 0 {
							s.apply(gone("prod", name))
							continue
						}
						s.apply(service("prod", name, fmt.Sprintf("10.1.0.%d", random.IntN(250)), []registry.Visibility{registry.Public(), registry.Nobody()}[random.IntN(2)]))
					}
				}
				change()
				v := s.returning(before)
				change()
				v.say(v.bucketDigests(int(v.welcome.GetBuckets())))
				v.until("differing buckets", func() bool { return v.differing != nil })
				change()
				v.say(v.resourceDigests())
				change()
				last := s.registry.Revision()
				v.until("the last revision", func() bool { return v.revision >= last && v.heartbeat != nil })
				want := map[string]string{}
				for _, entry := range s.registry.Content("prod").Entries {
					want[entry.Key] = string(entry.Body)
				}
				got := map[string]string{}
				for key, body := range v.resources {
					got[key] = string(body)
				}
				if !maps.Equal(got, want) {
					t.Fatalf("seed %d: the VM holds %d resources, want the %d of the registry", seed, len(got), len(want))
				}
				if got := s.server.Watchers()[0].Mode; got != test.want {
					t.Errorf("seed %d: mode = %q, want %q", seed, got, test.want)
				}
				if got := counterValue(t, s.server.metrics.syncs.WithLabelValues(test.want)); got != 1 {
					t.Errorf("seed %d: syncs_total{mode=%q} = %v, want 1", seed, test.want, got)
				}
				if got := counterValue(t, s.server.metrics.compareBytes); got == 0 {
					t.Errorf("seed %d: compare_bytes_total = 0", seed)
				}
				s.stop()
			}
		})
	}
}

// TestCompareInManyMessages lists what is held a few at a time, and gets the outcome in small frames.
func TestCompareInManyMessages(t *testing.T) {
	s := start(t, func(o *Options) { o.FrameBytes = 300 })
	s.apply(town(600)...)
	before := s.registry.Content("prod").Entries
	for i := range 40 {
		s.apply(service("prod", fmt.Sprintf("service-%d", i*15), "10.0.0.2", registry.Public()))
		s.apply(gone("prod", fmt.Sprintf("service-%d", i*15+1)))
	}
	v := s.returning(before)
	v.say(v.bucketDigests(int(v.welcome.GetBuckets())))
	v.until("differing buckets", func() bool { return v.differing != nil })
	counts, digests := v.list()
	for len(digests) > 0 {
		part := digests[:min(7, len(digests))]
		digests = digests[len(part):]
		v.say(resourceDigestsOf(len(digests) > 0, counts, part...))
		counts = nil
	}
	v.until("the first heartbeat", func() bool { return v.heartbeat != nil })
	upserts, removed := 0, 0
	for _, frame := range v.frames {
		upserts += len(frame.GetUpserts())
		removed += len(frame.GetRemovedPlaces())
	}
	if upserts != 40 || removed != 80 || len(v.frames) < 10 {
		t.Errorf("sent %d upserts and %d removed in %d frames, want 40 and 80 in ten or more", upserts, removed, len(v.frames))
	}
	// What follows goes on from there.
	s.apply(service("prod", "marker", "10.0.0.2", registry.Public()))
	v.until("the marker", func() bool { return v.resources[key("prod", "marker")] != nil })
}

// TestCompareIsRefused plays VMs that do not keep to what a Compare asks for.
func TestCompareIsRefused(t *testing.T) {
	s := start(t, func(o *Options) { o.HelloTimeout = 300 * time.Millisecond; o.FullSyncs = 1 })
	s.apply(town(600)...)
	before := s.registry.Content("prod").Entries
	s.apply(service("prod", "service-7", "10.0.0.2", registry.Public()))

	// Each is played from the Welcome on.
	buckets := func(v *vm) {
		v.say(v.bucketDigests(int(v.welcome.GetBuckets())))
		v.until("differing buckets", func() bool { return v.differing != nil })
	}
	listing := func(edit func(counts, digests []uint32) []*registryv1.WatchRequest) func(*vm) {
		return func(v *vm) {
			buckets(v)
			for _, request := range edit(v.list()) {
				v.say(request)
			}
		}
	}
	one := func(counts, digests []uint32) []*registryv1.WatchRequest {
		return []*registryv1.WatchRequest{resourceDigestsOf(false, counts, digests...)}
	}
	tests := map[string]struct {
		play func(v *vm)
		want codes.Code
		text string
	}{
		"no bucket digests":          {func(v *vm) { v.say(bucketDigestsOf(nil)) }, codes.InvalidArgument, "digests of 0 buckets: welcome asked for 64"},
		"too few bucket digests":     {func(v *vm) { v.say(v.bucketDigests(32)) }, codes.InvalidArgument, "digests of 32 buckets: welcome asked for 64"},
		"too many bucket digests":    {func(v *vm) { v.say(v.bucketDigests(4096)) }, codes.InvalidArgument, "digests of 4096 buckets"},
		"bucket digests of any size": {func(v *vm) { v.say(bucketDigestsOf(make([]uint32, maxRequestBytes))) }, codes.ResourceExhausted, "larger than max"},
		"resource digests first":     {func(v *vm) { v.say(resourceDigestsOf(false, []uint32{1}, 1)) }, codes.InvalidArgument, "ResourceDigests is out of turn"},
		"bucket digests twice": {func(v *vm) { buckets(v); v.say(v.bucketDigests(int(v.welcome.GetBuckets()))) },
			codes.InvalidArgument, "BucketDigests is out of turn"},
		"hello again":           {func(v *vm) { v.say(helloOf(&registryv1.Hello{})) }, codes.InvalidArgument, "Hello is out of turn"},
		"ack before a delta":    {func(v *vm) { v.say(ackOf(1)) }, codes.InvalidArgument, "ack of revision 1"},
		"says nothing":          {func(*vm) {}, codes.Aborted, "no bucket digests within"},
		"lists nothing in time": {buckets, codes.Aborted, "no resource digests within"},
		"lists nothing": {listing(func(_, _ []uint32) []*registryv1.WatchRequest {
			return one(nil, nil)
		}), codes.InvalidArgument, "resource digests of 0 buckets: 1 differ"},
		"counts other buckets": {listing(func(counts, digests []uint32) []*registryv1.WatchRequest {
			return one(append(counts, 1), append(digests, 1))
		}), codes.InvalidArgument, "resource digests of 2 buckets: 1 differ"},
		"says that a bucket is empty": {listing(func(_, _ []uint32) []*registryv1.WatchRequest {
			return one([]uint32{0}, nil)
		}), codes.InvalidArgument, "add up to 00000000"},
		"leaves one out": {listing(func(counts, digests []uint32) []*registryv1.WatchRequest {
			return one(counts, digests[1:])
		}), codes.InvalidArgument, "by their counts the buckets hold"},
		"leaves one out, and does not count it": {listing(func(counts, digests []uint32) []*registryv1.WatchRequest {
			return one([]uint32{counts[0] - 1}, digests[1:])
		}), codes.InvalidArgument, "add up to"},
		"lists one twice": {listing(func(counts, digests []uint32) []*registryv1.WatchRequest {
			return one([]uint32{counts[0] + 1}, append(digests, digests[0]))
		}), codes.InvalidArgument, "add up to"},
		"lists more than it counts": {listing(func(counts, digests []uint32) []*registryv1.WatchRequest {
			return one(counts, append(digests, 0))
		}), codes.InvalidArgument, "by their counts the buckets hold"},
		"lists more than it holds": {listing(func(_, _ []uint32) []*registryv1.WatchRequest {
			return one([]uint32{601}, make([]uint32, 601))
		}), codes.InvalidArgument, "601 resource digests or more: hello said that the VM holds 600"},
		"counts beyond all bounds": {listing(func(_, digests []uint32) []*registryv1.WatchRequest {
			return one([]uint32{1<<32 - 1}, digests)
		}), codes.InvalidArgument, "hello said that the VM holds 600"},
		"lists without end": {listing(func(counts, _ []uint32) []*registryv1.WatchRequest {
			return slices.Repeat([]*registryv1.WatchRequest{resourceDigestsOf(true, counts, make([]uint32, 100)...)}, 20)
		}), codes.InvalidArgument, "by their counts the buckets hold"},
		"lists nothing, and more to come": {listing(func(counts, _ []uint32) []*registryv1.WatchRequest {
			return []*registryv1.WatchRequest{resourceDigestsOf(true, counts)}
		}), codes.InvalidArgument, "name none, and more to come"},
		"goes on listing": {listing(func(counts, digests []uint32) []*registryv1.WatchRequest {
			return append(one(counts, digests), one(counts, digests)...)
		}), codes.InvalidArgument, "ResourceDigests is out of turn"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := s.returning(before)
			v.t = t
			if got := v.welcome.GetBuckets(); got != 64 {
				t.Fatalf("welcome asks for %d buckets, want 64", got)
			}
			test.play(v)
			err := v.failure()
			if status.Code(err) != test.want || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
		})
	}
	// None of them holds a place, and whoever keeps to it is served.
	v := s.returning(before)
	v.compare()
	if got := v.keys(); len(got) != 600 || v.revision != 2 {
		t.Errorf("the VM holds %d resources at revision %d, want 600 at 2", len(got), v.revision)
	}
}

// FuzzDifference holds the difference of random sections and listings against a plain count. Digests are few
// and the same in all buckets, so that they collide.
func FuzzDifference(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{2, 3, 4})
	f.Add([]byte{}, []byte{7, 7, 7})
	f.Add([]byte{5, 5}, []byte{})
	const count = 4
	type member struct {
		bucket int
		digest uint32
	}
	f.Fuzz(func(t *testing.T, view, listed []byte) {
		want, got := map[member]int{}, map[member]int{}
		section := registry.Section{Revision: 9}
		for i, digest := range view {
			entry := &registry.Entry{Key: fmt.Sprint(i), Digest: registryv1.Digest(1<<40*uint64(i) + uint64(digest))}
			section.Entries = append(section.Entries, entry)
			want[member{registryv1.Bucket(entry.Key, count), uint32(digest)}]++
		}
		held := heldBuckets{buckets: []uint32{0, 1, 2, 3}}
		var members []member
		for bucket := range count {
			for i, digest := range listed {
				if i%count == bucket {
					held.digests = append(held.digests, uint32(digest))
					members = append(members, member{bucket, uint32(digest)})
					got[member{bucket, uint32(digest)}]++
				}
			}
			held.ends = append(held.ends, len(held.digests))
		}
		changes, removed := difference(section, count, held)
		for i, place := range removed {
			if i > 0 && place <= removed[i-1] {
				t.Fatalf("places %v are not in ascending order", removed)
			}
			got[members[place]]--
		}
		for _, entry := range changes.Upserts {
			got[member{registryv1.Bucket(entry.Key, count), entry.Digest.Short()}]++
		}
		maps.DeleteFunc(got, func(_ member, n int) bool { return n == 0 })
		if !maps.Equal(got, want) {
			t.Fatalf("the VM ends with %v, want %v", got, want)
		}
	})
}

// TestCompareIsProvedAtOnce changes the registry in a Compare, long before the publisher looks: the
// outcome is beyond every head that there was, and must be proved all the same.
func TestCompareIsProvedAtOnce(t *testing.T) {
	s := start(t, func(o *Options) { o.CoalesceWindow = time.Hour })
	s.apply(town(600)...)
	before := s.registry.Content("prod").Entries
	s.apply(service("prod", "service-7", "10.0.0.2", registry.Public()))
	v := s.returning(before)
	s.apply(service("prod", "service-8", "10.0.0.2", registry.Public()))
	v.compare()
	if got, want := v.heartbeat.GetRevision(), s.registry.Revision(); got != want {
		t.Errorf("the first heartbeat proves revision %d, want %d", got, want)
	}
}
