package server

import (
	"net/netip"
	"testing"
	"time"
)

// strangersAt is the bookkeeping with few connections at once, and a clock of its own.
func strangersAt(atOnce int) (s *strangers, pass func(time.Duration)) {
	now := time.Unix(1_700_000_000, 0)
	bounds := StrangerBounds{AtOnce: atOnce}
	bounds.complete()
	s = newStrangers(bounds, time.Hour, func() time.Time { return now })
	return s, func(d time.Duration) { now = now.Add(d) }
}

func prefix(address string) netip.Prefix {
	ip := netip.MustParseAddr(address)
	return netip.PrefixFrom(ip, ip.BitLen())
}

func TestStrangersAreBounded(t *testing.T) {
	const one, other, vm = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	fail := func(s *strangers, from string, times int) {
		for range times {
			s.debit(prefix(from), debitOfHandshake)
		}
	}
	tests := map[string]struct {
		happens func(s *strangers, pass func(time.Duration))
		want    map[string]bool
		// well: few connections come to nothing.
		well bool
	}{
		"nothing":                        {func(*strangers, func(time.Duration)) {}, map[string]bool{one: true, vm: true}, false},
		"as many as may be":              {func(s *strangers, _ func(time.Duration)) { fail(s, one, 3) }, map[string]bool{one: true, other: true}, false},
		"too many of one":                {func(s *strangers, _ func(time.Duration)) { fail(s, one, 4) }, map[string]bool{one: false, other: true}, false},
		"too many of all":                {func(s *strangers, _ func(time.Duration)) { fail(s, one, 4); fail(s, other, 4) }, map[string]bool{one: false, other: false, vm: false}, false},
		"many that did not get as far":   {func(s *strangers, _ func(time.Duration)) { lightly(s, one, 35) }, map[string]bool{one: true}, false},
		"too many that did not":          {func(s *strangers, _ func(time.Duration)) { lightly(s, one, 45) }, map[string]bool{one: false}, false},
		"it wears off":                   {func(s *strangers, pass func(time.Duration)) { fail(s, one, 8); pass(time.Second) }, map[string]bool{one: true, other: true}, false},
		"however many they were, soon":   {func(s *strangers, pass func(time.Duration)) { fail(s, one, 100_000); pass(time.Second) }, map[string]bool{one: true}, false},
		"those that proved do not count": {func(s *strangers, _ func(time.Duration)) { prove(s, one, 1000) }, map[string]bool{one: true, other: true}, false},
		"others do not count against a source that is known": {
			func(s *strangers, _ func(time.Duration)) { prove(s, vm, 1); fail(s, one, 8) },
			map[string]bool{one: false, other: false, vm: true}, false,
		},
		"its own do": {
			func(s *strangers, _ func(time.Duration)) { prove(s, vm, 1); fail(s, vm, 8) },
			map[string]bool{vm: false, one: true}, false,
		},
		"it is not known for ever": {
			func(s *strangers, pass func(time.Duration)) { prove(s, vm, 1); pass(time.Hour); fail(s, one, 8) },
			map[string]bool{vm: false}, false,
		},
		"too many at once, of whom few fail": {func(s *strangers, _ func(time.Duration)) { fail(s, one, 100); fail(s, vm, 100) }, map[string]bool{one: true, other: true}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, pass := strangersAt(8)
			test.happens(s, pass)
			if !test.well {
				manyFail(s)
			}
			for from, want := range test.want {
				if got := s.admits(prefix(from)); got != want {
					t.Errorf("a connection from %s is admitted: %t, want %t", from, got, want)
				}
			}
		})
	}
}

// manyFail has many connections come to nothing.
func manyFail(s *strangers) {
	for range 2 * failuresAtOnce {
		s.failure()
	}
}

// lightly has connections fail before their handshake.
func lightly(s *strangers, from string, times int) {
	for range times {
		s.debit(prefix(from), debitOfConnection)
	}
}

// prove has VMs come and prove who they are.
func prove(s *strangers, from string, times int) {
	for range times {
		undo := s.debit(prefix(from), debitOfHandshake)
		undo()
		s.proved(prefix(from))
	}
}

func TestStrangersGetThroughAtAPace(t *testing.T) {
	s, pass := strangersAt(8)
	// A handshake takes 10 ms: of 15 % of the processors, one source is granted half.
	for range 1000 {
		s.took(10 * time.Millisecond)
	}
	want := max(leastStrangers, s.bounds.Share*float64(s.processors())*100) / 2
	admitted := 0
	const tenth = time.Second / 1000
	for range 10_000 {
		pass(tenth)
		manyFail(s)
		if s.admits(prefix("192.0.2.1")) {
			admitted++
			s.debit(prefix("192.0.2.1"), debitOfHandshake)
		}
	}
	if got := float64(admitted-8) / 10; got < 0.9*want || got > 1.1*want {
		t.Errorf("%.1f connections a second get through, want %.1f", got, want)
	}
}

func TestSourcesAreForgotten(t *testing.T) {
	s, pass := strangersAt(8)
	s.proved(prefix("192.0.2.1"))
	address := netip.MustParseAddr("10.0.0.0")
	for i := range 2 * maxSources {
		s.debit(netip.PrefixFrom(address, 32), debitOfHandshake)
		address = address.Next()
		if i%1000 == 0 {
			pass(time.Millisecond)
		}
	}
	manyFail(s)
	if got := s.size(); got > maxSources {
		t.Errorf("%d sources are remembered, want at most %d", got, maxSources)
	}
	if !s.admits(prefix("192.0.2.1")) {
		t.Error("the source that is known was forgotten among those that are not")
	}
	if s.admits(netip.PrefixFrom(address, 32)) {
		t.Error("a source that is not known is admitted, want all of them to count")
	}
}
