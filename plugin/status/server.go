package status

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of the server. Those who ask are on this machine, ask once, and read at once.
const (
	maxConnections = 8
	maxHeader      = 4 << 10
	patience       = 5 * time.Second
)

// Server serves Reports at a socket.
type Server struct {
	socket *socket
	http   *http.Server
	log    *slog.Logger
	serve  sync.WaitGroup
}

// Source is what there is to tell. Its functions may be called by some goroutines at once.
type Source struct {
	// Report is how the process stands.
	Report func() Report
	// Hosts are the mesh's hosts outside its zones. Nil: nobody may ask.
	Hosts func() []string
	// Explain says what a query is answered, and why. The error says what is wrong with the question. Nil: nobody may ask.
	Explain func(Question) (Explanation, error)
}

// Serve makes a socket at a path, with permissions 0660, and answers GET /status and GET /hosts there with what the source returns, as
// JSON, until Close. A socket that nobody answers on gives way; it is an error where another process does (ErrInUse), or where
// the file is no socket.
func Serve(path string, source Source, log *slog.Logger) (*Server, error) {
	socket, err := listen(path)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, content any) {
		body, err := json.Marshal(content)
		if err != nil {
			log.Error("status not served", "error", err)
			http.Error(w, "the status cannot be encoded", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if _, err := w.Write(append(body, '\n')); err != nil {
			log.Debug("status not sent", "error", err)
		}
	}
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, source.Report()) })
	if source.Hosts != nil {
		mux.HandleFunc("GET /hosts", func(w http.ResponseWriter, _ *http.Request) { answer(w, source.Hosts()) })
	}
	if source.Explain != nil {
		mux.HandleFunc("GET /explain", func(w http.ResponseWriter, r *http.Request) {
			asked := r.URL.Query()
			explanation, err := source.Explain(Question{Name: asked.Get("name"), Type: asked.Get("type")})
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer(w, explanation)
		})
	}
	s := &Server{socket: socket, log: log, http: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	s.http.SetKeepAlivesEnabled(false)
	s.serve.Go(func() {
		if err := s.http.Serve(netutil.LimitListener(socket, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("status socket ended", "socket", path, "error", err)
		}
	})
	return s, nil
}

// Close ends the server, waits for answers under way, and removes the socket unless another process has made its own there.
func (s *Server) Close() {
	if err := s.socket.remove(); err != nil {
		s.log.Error("status socket not removed", "socket", s.socket.path, "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.log.Debug("status socket closed while it was asked", "socket", s.socket.path, "error", err)
		_ = s.http.Close() // what it closes is of no more use
	}
	s.serve.Wait()
}
