package page

import (
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

//go:embed status.html
var shell string

// Facts are what the page shows. Methods are called by many at once.
type Facts interface {
	Overview() Overview
	Replica(ctx context.Context) Replica
	VMs() []VM
	Names(ctx context.Context, prefix string, limit int) (Names, error)
	VIPs(ctx context.Context) (VIPs, error)
}

// Options of a Page.
type Options struct {
	Facts Facts
	// Explain serves /status/api/name as /debug/registry is served.
	Explain http.HandlerFunc
	// Guard lets through those who may see data, and Shell those who may see the page without any.
	Guard, Shell func(http.HandlerFunc) http.HandlerFunc
	// Stopping ends all streams of events.
	Stopping context.Context
	// Listeners bounds the streams of events. Zero: 32.
	Listeners int
	// Every is the least time between two events. Zero: 1 s.
	Every time.Duration
	// Longest is how long a stream of events lasts at most: then Guard is asked again. Zero: 5 min.
	Longest time.Duration
}

// Page serves the status page.
type Page struct {
	Options
	listeners chan struct{}
	policy    string

	mu   sync.Mutex // over what is shared for a moment
	vms  []VM
	read time.Time
}

// New is a page.
func New(options Options) *Page {
	if options.Listeners == 0 {
		options.Listeners = 32
	}
	if options.Every == 0 {
		options.Every = time.Second
	}
	if options.Longest == 0 {
		options.Longest = 5 * time.Minute
	}
	return &Page{Options: options, listeners: make(chan struct{}, options.Listeners), policy: policy(shell)}
}

// policy allows exactly the style and the script that the page holds.
func policy(html string) string {
	return "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
		"style-src " + hashOf(html, "style") + "; script-src " + hashOf(html, "script")
}

func hashOf(html, element string) string {
	_, rest, _ := strings.Cut(html, "<"+element+">")
	content, _, _ := strings.Cut(rest, "</"+element+">")
	digest := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"
}

// Register puts the page into a mux.
func (p *Page) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /status", p.Shell(p.serveShell))
	mux.HandleFunc("GET /status/events", p.Guard(p.serveEvents))
	for path, serve := range map[string]http.HandlerFunc{
		"overview": func(w http.ResponseWriter, _ *http.Request) { answer(w, p.Facts.Overview()) },
		"replica":  func(w http.ResponseWriter, r *http.Request) { answer(w, p.Facts.Replica(r.Context())) },
		"vms":      p.serveVMs,
		"names":    p.serveNames,
		"name":     p.Explain,
		"vips":     p.serveVIPs,
	} {
		mux.HandleFunc("GET /status/api/"+path, p.Guard(func(w http.ResponseWriter, r *http.Request) {
			protect(w)
			serve(w, r)
		}))
	}
}

func protect(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
}

func (p *Page) serveShell(w http.ResponseWriter, _ *http.Request) {
	protect(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	_, _ = io.WriteString(w, shell) // an error means that the client has gone
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has gone
}

func (p *Page) serveNames(w http.ResponseWriter, r *http.Request) {
	prefix := strings.ToLower(strings.TrimSpace(r.URL.Query().Get("prefix")))
	if prefix == "" || len(prefix) > 253 {
		http.Error(w, "parameter prefix: want 1 to 253 characters", http.StatusBadRequest)
		return
	}
	names, err := p.Facts.Names(r.Context(), prefix, namesShown)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, names)
}

// namesShown bounds a search.
const namesShown = 50

func (p *Page) serveVIPs(w http.ResponseWriter, r *http.Request) {
	vips, err := p.Facts.VIPs(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, vips)
}
