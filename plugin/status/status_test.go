package status

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func serve(t *testing.T, path string, report Report) *Server {
	t.Helper()
	s, err := Serve(path, Source{Report: func() Report { return report }}, quiet)
	if err != nil {
		t.Fatalf("Serve: %v", err)
	}
	return s
}

func TestHostsArrive(t *testing.T) {
	path, want := filepath.Join(t.TempDir(), "status.sock"), []string{"*.example.com", "payments.example.com"}
	s, err := Serve(path, Source{Report: func() Report { return Report{} }, Hosts: func() []string { return want }}, quiet)
	if err != nil {
		t.Fatalf("Serve: %v", err)
	}
	defer s.Close()
	if got, err := Hosts(t.Context(), path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("hosts: got %q and %v, want %q", got, err, want)
	}
}

func TestReportArrives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.sock")
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := Report{Version: "1.0", At: at, Mirrors: []Mirror{{
		Syncers: []string{"a:1", "b:2"}, Namespace: "prod", Node: "vm-1", ConnectedAddress: "b:2", Since: at, Synced: true, Loaded: true,
		View: "prod", Generation: "g", Revision: 7, Resources: 3, ConfirmedAt: at, StalenessSeconds: 1.5, MaxStaleSeconds: 3600, SnapshotFile: "/s",
		Credentials: []Credential{{Kind: "token", File: "/t", Subject: "x", Expires: at}},
		Problem:     &Problem{Since: at, At: at, Address: "a:1", Cause: "unauthenticated", Reason: "EXPIRED", Message: "no", Remedy: "renew"},
	}}}
	s := serve(t, path, want)
	defer s.Close()
	got, err := Ask(t.Context(), path)
	if err != nil {
		t.Fatalf("Ask: %v", err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("report: got %+v, want %+v", got, want)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode(), fs.ModeSocket|0o660; got != want {
		t.Errorf("permissions: got %v, want %v", got, want)
	}
}

func TestSocketIsTaken(t *testing.T) {
	t.Run("never from a process that answers", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "status.sock")
		s := serve(t, path, Report{Version: "first"})
		defer s.Close()
		if _, err := Serve(path, Source{}, quiet); !errors.Is(err, ErrInUse) {
			t.Errorf("second: got %v, want %v", err, ErrInUse)
		}
		if got, err := Ask(t.Context(), path); err != nil || got.Version != "first" {
			t.Errorf("answer: got %+v, %v, want the first's", got, err)
		}
	})
	t.Run("from a process that died", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "status.sock")
		for _, left := range []string{path, path + "~"} {
			dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			dead.SetUnlinkOnClose(false)
			if err := dead.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s := serve(t, path, Report{Version: "second"})
		if got, err := Ask(t.Context(), path); err != nil || got.Version != "second" {
			t.Errorf("answer: got %+v, %v, want the second's", got, err)
		}
		s.Close()
		if left, err := filepath.Glob(filepath.Dir(path) + "/*"); err != nil || len(left) > 0 {
			t.Errorf("files after Close: got %q, %v, want none", left, err)
		}
	})
	for _, name := range []string{"status.sock", "status.sock~"} {
		t.Run("never from a file that is "+name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "status.sock")
			file := filepath.Join(filepath.Dir(path), name)
			if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Serve(path, Source{}, quiet); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want an error that names %s", err, file)
			}
			if content, err := os.ReadFile(file); err != nil || string(content) != "precious" {
				t.Errorf("file: got %q, %v, want it as it was", content, err)
			}
		})
	}
	t.Run("and left to another that took it since", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "status.sock")
		first := serve(t, path, Report{})
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		second := serve(t, path, Report{Version: "second"})
		defer second.Close()
		first.Close()
		if got, err := Ask(t.Context(), path); err != nil || got.Version != "second" {
			t.Errorf("answer: got %+v, %v, want the second's", got, err)
		}
	})
	t.Run("not where the folder is missing, or the name too long", func(t *testing.T) {
		for _, path := range []string{filepath.Join(t.TempDir(), "none", "status.sock"), "/" + strings.Repeat("x", MaxPath)} {
			if _, err := Serve(path, Source{}, quiet); err == nil || !strings.Contains(err.Error(), path[:8]) {
				t.Errorf("%s: got %v, want an error that names it", path, err)
			}
		}
	})
}

func TestServerIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.sock")
	s := serve(t, path, Report{})
	defer s.Close()
	tests := []struct{ name, request, want string }{
		{"another path", "GET /debug HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"another method", "POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"},
		{"a long header", "GET /status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "431"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, test.request); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if !strings.HasPrefix(response.Status, test.want) {
				t.Errorf("status: got %s, want %s", response.Status, test.want)
			}
		})
	}
}

func TestAskSaysWhatToLookAfter(t *testing.T) {
	dir := t.TempDir()
	answering := func(body string) string {
		listener, err := net.Listen("unix", filepath.Join(dir, fmt.Sprintf("%d.sock", len(body))))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body) // Who asks tells whether it came.
		})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		t.Cleanup(func() {
			server.Close()
			<-served
		})
		return listener.Addr().String()
	}
	tests := []struct{ name, path, want string }{
		{"no socket", filepath.Join(dir, "none.sock"), "see that CoreDNS with meshvm runs"},
		{"another program", answering("hello"), "does not answer as CoreDNS with meshvm"},
		{"an endless answer", answering(strings.Repeat(" ", maxReport+1)), "larger than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := Ask(ctx, test.path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	well := Mirror{ConnectedAddress: "a:1", Synced: true, Loaded: true, StalenessSeconds: 3, MaxStaleSeconds: 3600}
	tests := []struct {
		name string
		edit func(*Mirror)
		want []string
	}{
		{"none", func(*Mirror) {}, nil},
		{"a credential that goes on", func(m *Mirror) { m.Credentials = []Credential{{Kind: "token", Expires: at.Add(1)}} }, nil},
		{"a credential of unknown end", func(m *Mirror) { m.Credentials = []Credential{{Kind: "token"}} }, nil},
		{"a credential that has ended", func(m *Mirror) {
			m.Credentials = []Credential{{Kind: "token", File: "/t", Expires: at.Add(-time.Minute)}}
		}, []string{"the token in /t ended 1m0s ago"}},
		{"a file that cannot be used", func(m *Mirror) { m.Credentials = []Credential{{Kind: "token", Fault: "gone"}} }, []string{"the token cannot be used: gone"}},
		{"no syncer", func(m *Mirror) { m.ConnectedAddress = "" }, []string{"no syncer is followed"}},
		{"no registry", func(m *Mirror) { m.Loaded = false }, []string{"no registry was ever loaded"}},
		{"a stale registry", func(m *Mirror) { m.StalenessSeconds = 3601 }, []string{"current 1h0m1s ago"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := well
			test.edit(&m)
			got := m.Faults(at)
			if len(got) != len(test.want) {
				t.Fatalf("faults: got %q, want %d", got, len(test.want))
			}
			for i := range got {
				if !strings.Contains(got[i], test.want[i]) {
					t.Errorf("fault: got %q, want %q in it", got[i], test.want[i])
				}
			}
		})
	}
}
