package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
)

// freeze is where a replica stops: from a request on, everything that it sends is held, and arrives when it
// wakes up, whatever became of it meanwhile.
type freeze struct {
	at   func(*http.Request) bool
	thaw chan struct{}
	late atomic.Int32 // Writes that came late.

	mu     sync.Mutex
	is     bool
	frozen chan struct{}
}

func newFreeze(at func(*http.Request) bool) *freeze {
	return &freeze{at: at, thaw: make(chan struct{}), frozen: make(chan struct{})}
}

func (z *freeze) wrap(next http.RoundTripper) http.RoundTripper { return freezeTripper{z, next} }

type freezeTripper struct {
	*freeze
	next http.RoundTripper
}

func (z freezeTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	z.mu.Lock()
	if !z.is && z.at(request) {
		z.is = true
		close(z.frozen)
	}
	held := z.is
	z.mu.Unlock()
	if held {
		<-z.thaw
		if isPatch(request) || isLedgerWrite(request) {
			z.late.Add(1)
		}
		request = request.Clone(context.WithoutCancel(request.Context()))
	}
	return z.next.RoundTrip(request)
}

// WrappedRoundTripper lets client-go find the transport.
func (z freezeTripper) WrappedRoundTripper() http.RoundTripper { return z.next }

// A leader stops in the middle, another takes its place and things change; then all that the first had on its
// way arrives.
func TestLeaderThatWakesUpLate(t *testing.T) {
	tests := map[string]func(*http.Request) bool{
		"with its first writes of the ledger on the way": nth(1, isLedgerWrite),
		"with some writes of the ledger on the way":      nth(10, isLedgerWrite),
		"with its first patches on the way":              nth(1, isPatch),
		"with some patches on the way":                   nth(20, isPatch),
	}
	for name, at := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			h := newHistorian(f)
			small := within("240.240.0.0/25")
			entry := func(number int) string {
				name := fmt.Sprintf("e%d", number)
				f.create(f.serviceEntry(name, name+".test"))
				return name
			}
			for i := range 40 {
				entry(i)
			}
			z := newFreeze(at)
			wake := sync.OnceFunc(func() { close(z.thaw) })
			f.start(small, func(c *Config) {
				c.REST = rest.CopyConfig(c.REST)
				c.REST.Wrap(z.wrap)
			})
			t.Cleanup(wake) // Before the replica is stopped, which waits for what is on its way.
			f.eventually("the leader to freeze", func() bool {
				select {
				case <-z.frozen:
					return true
				default:
					return false
				}
			})
			// Some go before the other leads, some after.
			for i := range 10 {
				f.delete(fmt.Sprintf("e%d", i))
			}
			f.start(small)
			var names []string
			for i := 20; i < 40; i++ {
				names = append(names, fmt.Sprintf("e%d", i))
			}
			for _, name := range names {
				f.awaitAddresses(name, 1)
			}
			for i := 10; i < 20; i++ {
				f.delete(fmt.Sprintf("e%d", i))
			}
			for i := 40; i < 70; i++ {
				names = append(names, entry(i))
			}
			wake()
			f.eventually("what was on the way to arrive", func() bool { return z.late.Load() > 0 })
			for i := 70; i < 80; i++ {
				names = append(names, entry(i))
			}
			for i := range 20 {
				names = append(names, entry(i))
			}
			for _, name := range names {
				f.awaitAddresses(name, 1)
			}
			h.check(t)
		})
	}
}
