package page

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

const (
	// eventPatience is how long a listener may take for an event before it is dropped.
	eventPatience = 5 * time.Second
	// quiet is after how long without an event a listener is told that the syncer is there.
	quiet = 15 * time.Second
)

// serveEvents sends the overview whenever it changes, until the syncer stops or the listener goes, for a while: a token may
// have ended meanwhile.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case p.listeners <- struct{}{}:
		defer func() { <-p.listeners }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "as many listen as may: the page asks from time to time instead", http.StatusServiceUnavailable)
		return
	}
	protect(w)
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	// The server's time to read a request would end the stream. Writing has a time of its own for every event.
	_ = control.SetReadDeadline(time.Time{}) // unsupported by recorders of tests only
	ticker := time.NewTicker(p.Every)
	defer ticker.Stop()
	end := time.NewTimer(p.Longest)
	defer end.Stop()
	var before []byte
	var sent time.Time
	for {
		event, err := json.Marshal(p.Facts.Overview())
		if err != nil {
			return
		}
		message := []byte(nil)
		switch now := time.Now(); {
		case !bytes.Equal(event, before):
			message = append(append([]byte("event: overview\ndata: "), event...), "\n\n"...)
			before, sent = event, now
		case now.Sub(sent) >= quiet:
			message, sent = []byte(": quiet\n\n"), now
		}
		if message != nil {
			_ = control.SetWriteDeadline(time.Now().Add(eventPatience))
			if _, err := w.Write(message); err != nil {
				return
			}
			if err := control.Flush(); err != nil {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-end.C:
			return
		case <-p.Stopping.Done():
			return
		}
	}
}
