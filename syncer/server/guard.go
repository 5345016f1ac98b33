package server

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/meshvm/meshvm/syncer/registry"
)

// guardReport is what /debug/guard says.
type guardReport struct {
	Enabled bool          `json:"enabled"`
	Share   float64       `json:"share"`
	Minimum int           `json:"minimum"`
	Window  string        `json:"window"`
	Hold    string        `json:"hold"`
	Kinds   []guardedKind `json:"kinds"`
}

// guardedKind is a kind of objects of a source. All but the first four are absent where nothing is held back.
type guardedKind struct {
	Source string `json:"source"`
	Kind   string `json:"kind"`
	// Live is how many resources the source has, and Held how many are kept beside those.
	Live int            `json:"live"`
	Held int            `json:"held"`
	For  *registry.Loss `json:"for,omitempty"`
	// Since is when holding back began, and Ends are when the first and the last of it end by themselves.
	Since *time.Time  `json:"since,omitempty"`
	Ends  []time.Time `json:"ends,omitempty"`
	// Objects are some of those that are held back.
	Objects []string `json:"objects,omitempty"`
}

// serveGuard serves /debug/guard: what is held back, why and until when.
func (s *Server) serveGuard(w http.ResponseWriter, _ *http.Request) {
	options, statuses := s.registry.GuardOptions(), s.registry.GuardStatus()
	report := guardReport{
		Enabled: options.Share > 0, Share: options.Share, Minimum: options.Minimum,
		Window: options.Window.String(), Hold: options.Hold.String(), Kinds: []guardedKind{},
	}
	for _, status := range statuses {
		for _, kind := range status.Kinds {
			guarded := guardedKind{Source: status.Source, Kind: kind.Kind, Live: kind.Live, Held: kind.Held}
			if kind.Held > 0 {
				guarded.For, guarded.Since, guarded.Ends = kind.Loss, &kind.Since, []time.Time{kind.Next, kind.Last}
			}
			for _, object := range kind.Objects {
				guarded.Objects = append(guarded.Objects, object.String())
			}
			report.Kinds = append(report.Kinds, guarded)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	encode(w, report)
}

// releaseHeld serves /guard/release: it lets go what is held back, of one source or kind where those are
// given.
func (s *Server) releaseHeld(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for name := range query {
		if name != "source" && name != "kind" {
			http.Error(w, fmt.Sprintf("parameter %q: want source or kind", name), http.StatusBadRequest)
			return
		}
	}
	source, kind := query.Get("source"), query.Get("kind")
	if err := s.checkGuarded(source, kind); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	resources := s.registry.ReleaseHeld(source, kind)
	s.opts.Log.Info("released what was held back", "source", source, "kind", kind, "resources", resources)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "released %d resources\n", resources) // an error means that the client has gone
}

// checkGuarded refuses a source and kind that do not exist, so that a misspelt one is not taken for done.
func (s *Server) checkGuarded(source, kind string) error {
	if source == "" && kind == "" {
		return nil
	}
	var known []string
	for _, status := range s.registry.GuardStatus() {
		for _, guarded := range status.Kinds {
			if (source == "" || status.Source == source) && (kind == "" || guarded.Kind == kind) {
				return nil
			}
			known = append(known, status.Source+" "+guarded.Kind)
		}
	}
	return fmt.Errorf("source %q, kind %q: the guard knows only %q", source, kind, slices.Sorted(slices.Values(known)))
}
