// Package transcript keeps what a program or a log writes, for tests that read it meanwhile.
package transcript

import (
	"strings"
	"sync"
)

// Transcript is a writer whose text can be read while it is written. The zero value is empty and ready
// for use. It is safe for concurrent use.
type Transcript struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // nil until somebody waits
}

// Write implements io.Writer. It never fails.
func (t *Transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
	return t.text.Write(p)
}

// String is everything written so far.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// Changed is closed at the next Write.
func (t *Transcript) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}
