package watch

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshvm/meshvm/test/transcript"
)

// recorder is an Observer that keeps what it is told.
type recorder struct {
	mu      sync.Mutex
	events  []string
	applied []Applied
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) note(format string, arguments ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf(format, arguments...))
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Connected(address string) { r.note("connected %s", address) }
func (r *recorder) ConnectFailed(address string, cause Cause) {
	r.note("connect failed %s %s", address, cause)
}
func (r *recorder) Disconnected(address string, cause Cause) {
	r.note("disconnected %s %s", address, cause)
}
func (r *recorder) Resumed()              { r.note("resumed") }
func (r *recorder) Compared(int)          { r.note("compared") }
func (r *recorder) FullSync()             { r.note("full sync") }
func (r *recorder) Heartbeat(time.Time)   { r.note("heartbeat") }
func (r *recorder) Mismatch()             { r.note("mismatch") }
func (r *recorder) Refused(reason Reason) { r.note("refused %s", reason) }
func (r *recorder) Applied(delta Applied) {
	r.mu.Lock()
	r.applied = append(r.applied, delta)
	r.mu.Unlock()
	r.note("applied %d+ %d-", delta.Upserts, delta.Removals)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) count(event string) (n int) {
	for _, seen := range r.all() {
		if seen == event {
			n++
		}
	}
	return n
}

// await waits until an event has come to pass n times.
func (r *recorder) await(t *testing.T, event string, n int) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if r.count(event) >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("no %q (%d times) within %s, but %q", event, n, patience, r.all())
		}
	}
}

// logBook is a log that tests read.
type logBook struct{ transcript.Transcript }

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// lines are those that hold all of the words.
func (l *logBook) lines(words ...string) (found []string) {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			found = append(found, line)
		}
	}
	return found
}
