package watch

import (
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// limits bound how long and how much a Client takes. Only tests use others than defaultLimits.
type limits struct {
	// connect is for name look-up, TCP, TLS and the opening of the stream.
	connect time.Duration
	// welcome is from Hello to Welcome. A syncer that admits VMs at a bounded rate lets one wait.
	welcome time.Duration
	// heartbeat is the interval where Welcome names none, heartbeatMin and heartbeatMax bound what it
	// names. After silentHeartbeats of them without a message a stream is given up.
	heartbeat, heartbeatMin, heartbeatMax time.Duration
	// keepaliveTime without a word from the peer sends a ping, keepaliveTimeout without an answer ends
	// the connection.
	keepaliveTime, keepaliveTimeout time.Duration
	// retryBase and retryCap bound the backoff, hintCap what a syncer may ask for.
	retryBase, retryCap, hintCap time.Duration
	// refusalBase and refusalCap bound the backoff after a refusal.
	refusalBase, refusalCap time.Duration
	// poll is how often the files of credentials are looked at. renewal is how long a stream goes on at most
	// when they hold a newer one.
	poll, renewal time.Duration
	// repair is the least time between two repairs that are asked for at once.
	repair time.Duration
	// ack is the least time between two Acks.
	ack time.Duration
	// report is the least time between two log lines of one repeated fault.
	report time.Duration
	// message bounds one message on the wire, staged what is held of one delta, both in bytes. A syncer's frames
	// are 256 KiB, or one resource. Of what says nothing at all a message takes some forty times its size in memory.
	message, staged int
}

const silentHeartbeats = 3

// maxHeaderBytes bounds the headers and trailers of a stream: why it ends stands in them.
const maxHeaderBytes = 64 << 10

var defaultLimits = limits{
	connect:          10 * time.Second,
	welcome:          30 * time.Second,
	heartbeat:        10 * time.Second,
	heartbeatMin:     time.Second,
	heartbeatMax:     time.Minute,
	keepaliveTime:    20 * time.Second,
	keepaliveTimeout: 10 * time.Second,
	retryBase:        250 * time.Millisecond,
	retryCap:         30 * time.Second,
	hintCap:          2 * time.Minute,
	refusalBase:      10 * time.Second,
	refusalCap:       5 * time.Minute,
	poll:             time.Second,
	renewal:          5 * time.Minute,
	repair:           30 * time.Second,
	ack:              100 * time.Millisecond,
	report:           time.Minute,
	message:          4 << 20,
	staged:           mirror.MaxBytes,
}

// silence is how long a stream may say nothing, given the heartbeat interval that its Welcome names.
func (l limits) silence(heartbeat time.Duration) time.Duration {
	if heartbeat == 0 {
		heartbeat = l.heartbeat
	}
	return silentHeartbeats * min(max(heartbeat, l.heartbeatMin), l.heartbeatMax)
}
