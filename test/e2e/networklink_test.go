//go:build linux

package e2e

import (
	"math/rand/v2"
	"sync"
	"time"
)

// link is one direction between two hosts of a network. It loses packets as a broken line does: nobody is
// told.
type link struct {
	deliver func(packet []byte)
	// queue holds packets on their way. Packets never overtake each other.
	queue chan flight

	mu    sync.Mutex
	ended bool
	fault fault
	// random decides which packets are lost. It begins with the same seed for each link.
	random *rand.Rand
	lost   int
}

// fault is what a link does to packets. The zero fault does nothing.
type fault struct {
	// cut loses every packet, loss this share of them.
	cut  bool
	loss float64
	// delay is how long a packet takes.
	delay time.Duration
}

// flight is a packet, and when it arrives.
type flight struct {
	packet []byte
	due    time.Time
}

// queueLength is what a line of some MB/s holds in a delay of 200 ms. What comes on top is lost.
const queueLength = 1000

func newLink(deliver func([]byte)) *link {
	return &link{
		deliver: deliver,
		queue:   make(chan flight, queueLength),
		random:  rand.New(rand.NewPCG(4, 6)),
	}
}

// take sends a packet on its way or loses it. The packet is the caller's again.
func (l *link) take(packet []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if l.fault.cut || l.random.Float64() < l.fault.loss {
		l.lost++
		return
	}
	select {
	case l.queue <- flight{append([]byte(nil), packet...), time.Now().Add(l.fault.delay)}:
	default:
		l.lost++
	}
}

// run delivers packets until the link has ended.
func (l *link) run() {
	for f := range l.queue {
		if wait := time.Until(f.due); wait > 0 {
			<-time.After(wait)
		}
		l.deliver(f.packet)
	}
}

func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.queue)
}

// suffer makes links have a fault from the next packet on.
func suffer(f fault, links ...*link) {
	for _, l := range links {
		l.mu.Lock()
		l.fault = f
		l.mu.Unlock()
	}
}

// losses is how many packets the links have lost.
func losses(links ...*link) (count int) {
	for _, l := range links {
		l.mu.Lock()
		count += l.lost
		l.mu.Unlock()
	}
	return count
}
