package server

import (
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// StrangerBounds bound what connections take until their VM has proved who it is. Zero fields have defaults.
type StrangerBounds struct {
	// Share is the part of the processors' time that TLS handshakes may take that come to nothing: those of all sources
	// that are not known, and again of all that are. One source has half of it. Zero: 0.1.
	Share float64
	// AtOnce is how many handshakes may have begun, and not have proved anything, before that counts: VMs that all come
	// at once do not wait for one another. One source has half of them. Zero: 1,024.
	AtOnce int
	// FirstWord is how long a connection may take for the first message of TLS. A VM sends it with the connection, and an
	// answer on the way may be lost once or twice. Zero: 5 s.
	FirstWord time.Duration
	// Proving is how long it may take after the handshake until it is known whose it is. Zero: 15 s.
	Proving time.Duration
	// Idle is how long a connection may be without a stream, whoever's it is. Zero: 30 s.
	Idle time.Duration
}

func (b *StrangerBounds) complete() {
	orDefault(&b.Share, 0.1)
	orDefault(&b.AtOnce, 1024)
	orDefault(&b.FirstWord, 5*time.Second)
	orDefault(&b.Proving, 15*time.Second)
	orDefault(&b.Idle, 30*time.Second)
}

const (
	// What is debited for a connection: one that does not get as far as the handshake costs a tenth of one that does.
	debitOfHandshake  = 1
	debitOfConnection = 0.1
	// Bounds of the handshakes a second that the share makes, whatever one seems to cost.
	leastStrangers, mostStrangers = 50, 5000
	// Strangers abound when this many connections have come to nothing, at more than so many a second.
	failuresAtOnce    = 50
	failuresPerSecond = 25
	// costOfHandshake is what one is taken to cost before one has been measured.
	costOfHandshake = time.Millisecond
	// maxSources is how many sources are remembered, and sourcesPerSweep how many are looked at to make room.
	maxSources      = 65_536
	sourcesPerSweep = 64
)

// strangers decides which connections are closed as soon as they are accepted, so that those that come to nothing
// cost little and VMs are served meanwhile. A connection is a debit from when it begins its handshake, which is what
// costs, and stops being one when its VM proves who it is. Debits wear off at the pace of handshakes that strangers are
// granted. While a source has too many, or all sources together that are not known, further ones are closed, save
// at that pace, if many come to nothing. So what is bounded is failures: VMs that come by the thousand are debits for a
// moment, and there is no failure among them.
//
// A source is known, for a time, once a VM there has proved who it is. Sources that are not known do not count against it:
// who attacks from many addresses does not keep known VMs away.
type strangers struct {
	bounds StrangerBounds
	// remembered is for how long a source is known.
	remembered time.Duration
	now        func() time.Time

	mu sync.Mutex
	// cost of a handshake lately, on average.
	cost    time.Duration
	unknown debits // of all sources that are not known
	known   debits // of all that are
	failed  debits // of connections that have come to nothing, wherever from
	sources map[netip.Prefix]*strangerSource
}

// strangerSource is what is remembered of a source.
type strangerSource struct {
	debits debits
	proved time.Time // the latest, zero: never
}

// debits wear off at a pace. The zero value is none.
type debits struct {
	count float64
	at    time.Time
}

func newStrangers(bounds StrangerBounds, remembered time.Duration, now func() time.Time) *strangers {
	return &strangers{
		bounds: bounds, remembered: remembered, now: now,
		cost: costOfHandshake, sources: map[netip.Prefix]*strangerSource{},
	}
}

// admits reports whether a connection from a source may go on. All may while few come to nothing: then those that have
// not proved anything are VMs that came at once, and the machine is busy.
func (s *strangers) admits(from netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.failed.wornOff(now, failuresPerSecond) < failuresAtOnce {
		return true
	}
	source, found := s.sources[from]
	if found && source.debits.wornOff(now, s.pace()/2) >= s.atOnce()/2 {
		return false
	}
	all := &s.unknown
	if found && s.knows(source, now) {
		all = &s.known
	}
	return all.wornOff(now, s.pace()) < s.atOnce()
}

// debit notes that a connection from a source costs something. What it returns undoes that.
func (s *strangers) debit(from netip.Prefix, amount float64) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	source := s.source(from, now)
	all := &s.unknown
	if s.knows(source, now) {
		all = &s.known
	}
	add := func(amount float64, now time.Time) {
		source.debits.add(amount, now, s.pace()/2, s.atOnce())
		all.add(amount, now, s.pace(), 2*s.atOnce())
	}
	add(amount, now)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		add(-amount, s.now())
	}
}

// proved notes that a VM of a source has proved who it is.
func (s *strangers) proved(from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.source(from, now).proved = now
}

// took notes what a handshake has cost.
func (s *strangers) took(cost time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cost += (cost - s.cost) / 16
}

// failure notes that a connection has come to nothing.
func (s *strangers) failure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed.add(1, s.now(), failuresPerSecond, 2*failuresAtOnce)
}

// abound reports whether many connections come to nothing.
func (s *strangers) abound() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed.wornOff(s.now(), failuresPerSecond) >= failuresAtOnce
}

// size is how many sources are remembered.
func (s *strangers) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sources)
}

// pace is at how many handshakes a second debits wear off, twice as fast as those of one source.
func (s *strangers) pace() float64 {
	each := max(s.cost, time.Microsecond).Seconds()
	return min(max(s.bounds.Share*float64(s.processors())/each, leastStrangers), mostStrangers)
}

func (*strangers) processors() int { return runtime.GOMAXPROCS(0) }

// atOnce are the debits at which further connections are closed, twice those of one source.
func (s *strangers) atOnce() float64 { return float64(s.bounds.AtOnce) }

func (s *strangers) knows(source *strangerSource, now time.Time) bool {
	return !source.proved.IsZero() && now.Sub(source.proved) < s.remembered
}

// source is what is remembered of one, from now on at least.
func (s *strangers) source(from netip.Prefix, now time.Time) *strangerSource {
	source, found := s.sources[from]
	if !found {
		if len(s.sources) >= maxSources {
			s.forget(now)
		}
		source = &strangerSource{}
		s.sources[from] = source
	}
	return source
}

// forget makes room: of some sources those that are as good as new, and one at least, rather one that is not known.
func (s *strangers) forget(now time.Time) {
	var last netip.Prefix
	looked, lastKnown, forgotten := 0, true, false
	for from, source := range s.sources {
		known := s.knows(source, now)
		switch {
		case !known && source.debits.wornOff(now, s.pace()/2) == 0:
			delete(s.sources, from)
			forgotten = true
		case lastKnown:
			last, lastKnown = from, known
		}
		if looked++; looked == sourcesPerSweep {
			break
		}
	}
	if !forgotten {
		delete(s.sources, last)
	}
}

// wornOff is how many are left.
func (d *debits) wornOff(now time.Time, pace float64) float64 {
	d.count = max(0, d.count-pace*now.Sub(d.at).Seconds())
	d.at = now
	return d.count
}

// add adds debits, or takes some away. They stay within a bound, so that they wear off soon however many there were.
func (d *debits) add(count float64, now time.Time, pace, most float64) {
	d.count = min(max(0, d.wornOff(now, pace)+count), most)
}
