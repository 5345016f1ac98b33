package server

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// newHTTPServer serves people and monitoring.
func (s *Server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelWarn),
	}
}

// Handler is what the HTTP listener serves: /metrics, /healthz, /readyz, /status and, to this machine only, /debug/registry, /debug/guard,
// /debug/vips and /guard/release. Those show names that are not everybody's, or take names from VMs.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	metrics := promhttp.HandlerFor(s.opts.Metrics, promhttp.HandlerOpts{
		Registry:            s.opts.Metrics,
		MaxRequestsInFlight: 4,
		Timeout:             20 * time.Second,
		ErrorLog:            slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelWarn),
	})
	if s.opts.HTTPAuthorizer != nil {
		mux.HandleFunc("GET /metrics", s.guardHTTP("/metrics")(metrics.ServeHTTP))
	} else {
		mux.Handle("GET /metrics", metrics)
	}
	s.status.Register(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeOK(w) })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /debug/registry", s.toThisMachine(s.serveExplanation))
	mux.HandleFunc("GET /debug/guard", s.toThisMachine(s.serveGuard))
	mux.HandleFunc("GET /debug/vips", s.toThisMachine(s.serveVirtualIPs))
	mux.HandleFunc("POST /guard/release", s.toThisMachine(s.releaseHeld))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recovering(func(error) { http.Error(w, "internal error", http.StatusInternalServerError) })
		mux.ServeHTTP(w, r)
	})
}

// toThisMachine serves programs on this machine only.
func (s *Server) toThisMachine(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := checkLocal(r); err != nil {
			s.warn("refused over HTTP", "path", r.URL.Path, "from", r.RemoteAddr, "error", err)
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		serve(w, r)
	}
}

// serveReady says whether VMs are served, and if not, what is missing.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if missing := s.notReady(); missing != "" {
		http.Error(w, missing, http.StatusServiceUnavailable)
		return
	}
	writeOK(w)
}

// notReady is what is missing for VMs to be served, or nothing.
func (s *Server) notReady() string {
	select {
	case <-s.registry.Ready():
	default:
		return s.waitingFor()
	}
	if !s.serving.Load() {
		return "not serving VMs: starting or shutting down"
	}
	return ""
}

func writeOK(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n") // an error means that the client has gone
}

// serveExplanation serves /debug/registry. Its answer is an explain.Explanation in JSON.
func (s *Server) serveExplanation(w http.ResponseWriter, r *http.Request) {
	question, err := parseQuestion(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	explanation, err := s.explain(r.Context(), question)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encode(w, explanation)
}

func encode(w io.Writer, v any) {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // the client has gone
}
