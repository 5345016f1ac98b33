package kubernetes

import (
	"errors"
	"net/http"
	"strings"
	"sync"
)

// cut is where a replica dies: from a request on, nothing of it reaches the API server any more. That is what
// a crash is to everybody else.
type cut struct {
	// at reports whether it dies at this request, and done whether the request is still served, but its answer
	// lost.
	at   func(*http.Request) bool
	done bool

	mu   sync.Mutex
	dead bool
	died chan struct{}
}

func newCut(served bool, at func(*http.Request) bool) *cut {
	return &cut{at: at, done: served, died: make(chan struct{})}
}

var errDead = errors.New("the replica is dead")

func (c *cut) wrap(next http.RoundTripper) http.RoundTripper { return cutTripper{c, next} }

type cutTripper struct {
	*cut
	next http.RoundTripper
}

func (c cutTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return nil, errDead
	}
	if c.at(request) {
		c.dead = true
		close(c.died)
		c.mu.Unlock()
		if c.done {
			response, err := c.next.RoundTrip(request)
			if err == nil {
				err = response.Body.Close()
			}
			return nil, errors.Join(errDead, err)
		}
		return nil, errDead
	}
	c.mu.Unlock()
	return c.next.RoundTrip(request)
}

// WrappedRoundTripper lets client-go find the transport.
func (c cutTripper) WrappedRoundTripper() http.RoundTripper { return c.next }

func isPatch(request *http.Request) bool {
	return request.Method == http.MethodPatch && strings.Contains(request.URL.Path, "/serviceentries/")
}

func isLedgerWrite(request *http.Request) bool {
	return (request.Method == http.MethodPost || request.Method == http.MethodPut) && strings.Contains(request.URL.Path, "/configmaps")
}
