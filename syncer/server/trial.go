package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/meshvm/meshvm/syncer/identity"
)

// Bounds of a connection until its VM has proved who it is, beside StrangerBounds.
const (
	// stallTimeout is after how long a handshake is taken for one that will come to nothing.
	stallTimeout = 2 * time.Second
	// refusedGrace is how long a VM has to read why it is refused.
	refusedGrace = time.Second
	// maxUnprovedBytes is how much it may say: a handshake with a long chain of certificates, the headers of a stream,
	// and Hello.
	maxUnprovedBytes = 256 << 10
)

// trial is what a connection is on until its VM has proved who it is: for a bounded time, in which it may say a
// bounded number of bytes, and as a debit of where it comes from. Afterwards the connection forgets it.
type trial struct {
	connection *connection
	strangers  *strangers
	failed     func(reason string)

	// The goroutine that reads owns these.
	ahead []byte // that has been read before its turn
	left  int    // that may still be read
	// processor is set while the connection shakes hands, when one goroutine does all.
	processor *processor

	mu     sync.Mutex
	over   bool
	reason string // of the failure if it ends now; empty: it would be none
	timer  *time.Timer
	// stalled: the handshake has been noted as a failure.
	stalled bool
	undo    func() // of the debit
}

// Values of the label reason.
const (
	failedSilent          = "silent"
	failedProtocol        = "protocol"
	failedHandshake       = "handshake"
	failedNoStream        = "no_stream"
	failedUnauthenticated = "unauthenticated"
)

// newTrial begins with a connection that has been accepted.
func newTrial(conn *connection, strangers *strangers, failed func(reason string)) *trial {
	t := &trial{connection: conn, strangers: strangers, failed: failed, left: maxUnprovedBytes, reason: failedSilent}
	t.mu.Lock() // It may expire before it is there.
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(strangers.bounds.FirstWord, t.expire)
	return t
}

// expire ends the connection when its time is over. A handshake that stalls is a failure some time before.
func (t *trial) expire() {
	t.mu.Lock()
	stalls := t.reason == failedHandshake && !t.over && !t.stalled
	if stalls {
		t.stalled = true
		t.strangers.failure()
		t.timer.Reset(connectionTimeout - stallTimeout)
	}
	t.mu.Unlock()
	if !stalls {
		_ = t.connection.Close() // nothing is left to do about it
	}
}

var errTooTalkative = fmt.Errorf("more than %d bytes before it is known whose connection it is", maxUnprovedBytes)

// read is the connection's Read. It leaves the processor to others while it waits.
func (t *trial) read(p []byte) (int, error) {
	if len(t.ahead) > 0 {
		n := copy(p, t.ahead)
		t.ahead = t.ahead[n:]
		return n, nil
	}
	if t.left <= 0 {
		return 0, errTooTalkative
	}
	defer t.pause()()
	n, err := t.connection.Conn.Read(p[:min(len(p), t.left)])
	t.left -= n
	return n, err
}

// write is the connection's Write, for which it may have to wait as well.
func (t *trial) write(p []byte) (int, error) {
	defer t.pause()()
	return t.connection.Conn.Write(p)
}

// pause leaves the processor of a handshake until it goes on.
func (t *trial) pause() (goOn func()) {
	if t.processor == nil {
		return func() {}
	}
	t.processor.leave()
	return t.processor.enter
}

// Form of a TLS record (RFC 8446, section 5.1).
const (
	recordHeader    = 5
	recordHandshake = 22
	maxRecord       = 1 << 14
)

var errNoTLS = errors.New("what it says is no TLS")

// hear waits for the first message of TLS. So nobody waits for the turn of a connection that says nothing, or nothing
// that makes sense, and it costs next to nothing.
func (t *trial) hear() error {
	record := make([]byte, recordHeader, 1<<9)
	if _, err := io.ReadFull(t.connection.Conn, record); err != nil {
		return err
	}
	length := int(binary.BigEndian.Uint16(record[3:]))
	if record[0] != recordHandshake || record[1] != 3 || length == 0 || length > maxRecord {
		t.stage(failedProtocol, 0)
		return errNoTLS
	}
	record = append(record, make([]byte, length)...)
	if _, err := io.ReadFull(t.connection.Conn, record[recordHeader:]); err != nil {
		return err
	}
	t.ahead, t.left = record, t.left-len(record)
	// Who waits for a turn now has not failed.
	t.stage("", connectionTimeout)
	return nil
}

// shake does the part of the handshake that costs.
func (t *trial) shake(processors, fewer chan struct{}, handshake func() error) error {
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return net.ErrClosed
	}
	t.reason, t.undo = failedHandshake, t.strangers.debit(t.connection.source, debitOfHandshake)
	t.timer.Reset(stallTimeout)
	t.mu.Unlock()
	if t.strangers.abound() {
		processors = fewer
	}
	t.processor = &processor{places: processors}
	t.processor.enter()
	defer func() {
		t.processor.leave()
		t.strangers.took(t.processor.used)
		t.processor = nil
	}()
	if err := handshake(); err != nil {
		return err
	}
	t.stage(failedNoStream, t.strangers.bounds.Proving)
	return nil
}

// stage says what the failure would be from now on, and when it comes to that; zero: not by itself.
func (t *trial) stage(reason string, timeout time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason = reason
	if timeout > 0 && !t.over {
		t.timer.Reset(timeout)
	}
}

// pass ends the trial well.
func (t *trial) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.end()
	t.strangers.proved(t.connection.source)
	t.connection.trial.Store(nil)
}

// refuse notes that a stream was refused. Its connection ends soon.
func (t *trial) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.fail(failedUnauthenticated)
	if t.reason == failedUnauthenticated {
		t.strangers.debit(t.connection.source, debitOfHandshake) // on top of the connection's own
		return
	}
	t.reason = failedUnauthenticated
	t.timer.Reset(refusedGrace)
}

// excuse notes that nobody can tell whose connection it is.
func (t *trial) excuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reason == failedNoStream {
		t.reason = ""
	}
}

// close ends the trial with the connection.
func (t *trial) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	switch t.reason {
	case "":
		t.end()
		return
	case failedUnauthenticated: // which has been counted
	default:
		t.fail(t.reason)
	}
	if t.undo == nil {
		t.strangers.debit(t.connection.source, debitOfConnection)
	}
	t.undo = nil
	t.end()
}

func (t *trial) fail(reason string) {
	t.failed(reason)
	t.strangers.failure()
}

// end is called with mu held.
func (t *trial) end() {
	t.over = true
	t.timer.Stop()
	if t.undo != nil {
		t.undo()
	}
}

// processor is a place among those that compute.
type processor struct {
	places chan struct{}
	since  time.Time
	used   time.Duration
}

func (p *processor) enter() {
	p.places <- struct{}{}
	p.since = time.Now()
}

func (p *processor) leave() {
	p.used += time.Since(p.since)
	<-p.places
}

// judge tells the connection of a stream how finding out whose it is went.
func judge(ctx context.Context, err error) {
	from, found := peer.FromContext(ctx)
	if !found {
		return
	}
	address, isOurs := from.Addr.(*remoteAddress)
	if !isOurs {
		return
	}
	t := (*connection)(address).trial.Load()
	if t == nil {
		return
	}
	if _, isRefusal := errors.AsType[*identity.Refusal](err); isRefusal {
		t.refuse()
	} else if err != nil {
		t.excuse()
	} else {
		t.pass()
	}
}
