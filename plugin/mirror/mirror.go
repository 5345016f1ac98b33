package mirror

import (
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Mirror.
type Options struct {
	// Namespace is the VM's own, for choosing among claims of one host, as long as the syncer has not
	// said whose view it sends.
	Namespace string
	// TTL, in seconds, of addresses that do not move: cluster IPs, literal addresses, virtual IPs.
	TTL uint32
	// EndpointTTL, in seconds, of addresses that do: those of endpoints.
	EndpointTTL uint32
	// Now is the clock, for the serial and the age. Nil: time.Now.
	Now func() time.Time
	// Elapsed is a clock that nobody sets, for the age: the time since any one moment. Nil: since New.
	Elapsed func() time.Duration
}

// Mirror is described in the package's documentation. Its methods are safe for concurrent use.
type Mirror struct {
	now     func() time.Time
	elapsed func() time.Duration
	state   atomic.Pointer[State]
	// confirmed is ConfirmedAt in nanoseconds since 1970; zero: never.
	confirmed atomic.Int64
	// confirmedElapsed is when that was by the clock that nobody sets, as it was reckoned when it was
	// learned, in nanoseconds. It may be before that clock began.
	confirmedElapsed atomic.Int64

	writing sync.Mutex // held while the next State is made
	saving  sync.Mutex // held while a snapshot is written or read
}

// New is a mirror that holds nothing.
func New(opts Options) *Mirror {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Elapsed == nil {
		began := time.Now()
		opts.Elapsed = func() time.Duration { return time.Since(began) }
	}
	m := &Mirror{now: opts.Now, elapsed: opts.Elapsed}
	m.state.Store(emptyState(opts.Namespace, lifetimes{fixed: opts.TTL, endpoint: opts.EndpointTTL}))
	return m
}

// State is the mirror's present content. It is never nil, never changes, and may be kept.
func (m *Mirror) State() *State { return m.state.Load() }

// Changed is closed at the next Apply or Load that succeeds. To miss nothing, take the channel before
// the State.
func (m *Mirror) Changed() <-chan struct{} { return m.State().superseded }

// SetTTL sets the TTLs, in seconds, of Options. Where they differ from the present ones, every record
// set is prepared anew.
func (m *Mirror) SetTTL(ttl, endpointTTL uint32) {
	m.writing.Lock()
	defer m.writing.Unlock()
	held := m.State()
	ttls := lifetimes{fixed: ttl, endpoint: endpointTTL}
	if held.ttls == ttls {
		return
	}
	m.state.Store(held.withLifetimes(ttls, m.now()))
}

// Confirm records that the registry was known to be current at a time. It is kept in the snapshot. A
// later call may name an earlier time: a syncer that is behind must not look current. The zero time says
// nothing and is ignored.
func (m *Mirror) Confirm(at time.Time) {
	if !at.IsZero() {
		m.confirm(at.UnixNano())
	}
}

func (m *Mirror) confirm(nanoseconds int64) {
	age := max(0, m.now().Sub(time.Unix(0, nanoseconds)))
	m.confirmedElapsed.Store(int64(m.elapsed() - age))
	m.confirmed.Store(nanoseconds)
}

// ConfirmedAt is the time of the last Confirm, or the one in the snapshot loaded. Zero: never.
func (m *Mirror) ConfirmedAt() time.Time {
	nanoseconds := m.confirmed.Load()
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

// Age is for how long the registry has not been known to be current; zero where it never was. It is what the
// clock says, and at least what has gone by since the last Confirm or Load said how old it was: a clock that
// is set back makes nothing younger. One that is set forward makes it older until the next Confirm, as after
// a machine has been suspended.
func (m *Mirror) Age() time.Duration {
	at := m.ConfirmedAt()
	if at.IsZero() {
		return 0
	}
	return max(0, m.now().Sub(at), m.elapsed()-time.Duration(m.confirmedElapsed.Load()))
}

// publish makes a State visible, with writing held, and wakes whoever waits for it.
func (m *Mirror) publish(next *State) {
	previous := m.state.Swap(next)
	close(previous.superseded)
}
