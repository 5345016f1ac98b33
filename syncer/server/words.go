package server

import "time"

// Bounds of what a VM says.
const (
	// maxHelloBytes bounds a Hello: it is held for as long as it waits its turn, and parts of it as long as the stream.
	maxHelloBytes = 4 << 10
	// requestsPerSecond bounds the requests of a stream in the long run, and requestsAtOnce for a moment. A VM sends ten
	// Acks a second at most.
	requestsPerSecond = 100
	requestsAtOnce    = 1000
)

// requestPace counts the requests of one stream. It is used by one goroutine.
type requestPace struct {
	// free is how many may come at once.
	free float64
	at   time.Time
}

func newRequestPace(now time.Time) requestPace { return requestPace{free: requestsAtOnce, at: now} }

// allows counts a request, and reports whether it is not one too many.
func (p *requestPace) allows(now time.Time) bool {
	p.free = min(requestsAtOnce, p.free+max(0, now.Sub(p.at).Seconds())*requestsPerSecond) - 1
	p.at = now
	return p.free >= 0
}
