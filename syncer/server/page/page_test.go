package page

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// stub is a syncer with VMs. Its revision moves when it is told to.
type stub struct {
	vms      []VM
	revision atomic.Uint64
}

func (s *stub) Overview() Overview {
	return Overview{Revision: s.revision.Load(), Sources: []Source{}, Holds: []Hold{}}
}
func (s *stub) Replica(context.Context) Replica                   { return Replica{} }
func (s *stub) VMs() []VM                                         { return s.vms }
func (s *stub) Names(context.Context, string, int) (Names, error) { return Names{}, nil }
func (s *stub) VIPs(context.Context) (VIPs, error)                { return VIPs{}, nil }
func everybody(serve http.HandlerFunc) http.HandlerFunc           { return serve }
func explainNothing(w http.ResponseWriter, _ *http.Request)       { w.WriteHeader(http.StatusNoContent) }

func serve(tb testing.TB, options Options) *httptest.Server {
	tb.Helper()
	options.Explain, options.Guard, options.Shell, options.Every = explainNothing, everybody, everybody, time.Millisecond
	if options.Stopping == nil {
		options.Stopping = tb.Context()
	}
	mux := http.NewServeMux()
	New(options).Register(mux)
	server := httptest.NewServer(mux)
	tb.Cleanup(server.Close)
	return server
}

// listen begins to listen, and returns what it was told at once, and the lines that come; they end when the stream does.
func listen(t *testing.T, server *httptest.Server) (status int, retryAfter string, events <-chan string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/status/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), "data: ") {
				lines <- scanner.Text()
			}
		}
	}()
	return response.StatusCode, response.Header.Get("Retry-After"), lines
}

// next is the next event, or nothing when the stream has ended.
func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line := <-lines:
		return line
	case <-time.After(time.Minute):
		t.Fatal("no event within a minute")
		return ""
	}
}

func TestEvents(t *testing.T) {
	t.Run("one at first, and one for each change", func(t *testing.T) {
		facts := &stub{}
		_, _, lines := listen(t, serve(t, Options{Facts: facts}))
		for revision := range uint64(3) {
			facts.revision.Store(revision)
			want := fmt.Sprintf(`"revision":%d,`, revision)
			for line := next(t, lines); !strings.Contains(line, want); line = next(t, lines) {
				if line == "" {
					t.Fatalf("the stream ended without %s", want)
				}
			}
		}
	})
	t.Run("no more listeners than may be", func(t *testing.T) {
		server := serve(t, Options{Facts: &stub{}, Listeners: 1})
		_, _, lines := listen(t, server)
		next(t, lines)
		if status, retryAfter, _ := listen(t, server); status != http.StatusServiceUnavailable || retryAfter == "" {
			t.Errorf("the second listener: got %d, want 503 and when to come again", status)
		}
	})
	t.Run("they end after a while, so that the listener is known anew", func(t *testing.T) {
		_, _, lines := listen(t, serve(t, Options{Facts: &stub{}, Longest: 50 * time.Millisecond}))
		next(t, lines)
		if line := next(t, lines); line != "" {
			t.Errorf("got %q after the end, want nothing", line)
		}
	})
	t.Run("they end with the syncer", func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		_, _, lines := listen(t, serve(t, Options{Facts: &stub{}, Stopping: stopping}))
		next(t, lines)
		stop()
		if line := next(t, lines); line != "" {
			t.Errorf("got %q after the end, want nothing", line)
		}
	})
}

func vms(n int) []VM {
	all := make([]VM, n)
	for i := range all {
		all[i] = VM{Node: fmt.Sprintf("vm-%05d", n-i), Namespace: fmt.Sprintf("ns-%d", i%7), Address: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), Lag: uint64(i % 3)}
	}
	return all
}

func TestChoose(t *testing.T) {
	all := vms(120)
	byNode := orders["node"]
	tests := map[string]struct {
		filter                string
		page                  int
		first                 string
		matched, pages, shown int
	}{
		"the first page":    {"", 1, "vm-00001", 120, 3, 50},
		"the last page":     {"", 3, "vm-00101", 120, 3, 20},
		"beyond the last":   {"", 9, "vm-00101", 120, 3, 20},
		"a filter":          {"VM-0000", 1, "vm-00001", 9, 1, 9},
		"of a namespace":    {"ns-3", 1, "vm-00005", 17, 1, 17},
		"of nobody":         {"nobody", 1, "", 0, 1, 0},
		"an address's part": {"10.0.0.11:", 1, "vm-00109", 1, 1, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := choose(all, test.filter, test.page, byNode)
			if got.Total != 120 || got.Matched != test.matched || got.Pages != test.pages || len(got.VMs) != test.shown {
				t.Errorf("got %d of %d, %d pages, %d shown, want %d, %d and %d", got.Matched, got.Total, got.Pages, len(got.VMs), test.matched, test.pages, test.shown)
			}
			if len(got.VMs) > 0 && got.VMs[0].Node != test.first {
				t.Errorf("got %s first, want %s", got.VMs[0].Node, test.first)
			}
		})
	}
}

// BenchmarkVMs is one page of 20,000 VMs, sorted by their lag.
func BenchmarkVMs(b *testing.B) {
	facts := &stub{vms: vms(20_000)}
	mux := http.NewServeMux()
	New(Options{Facts: facts, Explain: explainNothing, Guard: everybody, Shell: everybody, Stopping: b.Context()}).Register(mux)
	for _, query := range []string{"", "?sort=-lag", "?filter=vm-00042"} {
		b.Run("query="+query, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				recorder := httptest.NewRecorder()
				mux.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/status/api/vms"+query, nil))
				if recorder.Code != http.StatusOK {
					b.Fatal(recorder.Body)
				}
			}
		})
	}
}
