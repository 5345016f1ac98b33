package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

func TestNamesSearched(t *testing.T) {
	search := []string{"prod.svc.cluster.local", "corp.example.com."}
	tests := []struct {
		name, asked string
		ndots       int
		want, musl  []string
	}{
		{"a short name", "reviews", 1, []string{"reviews.prod.svc.cluster.local.", "reviews.corp.example.com.", "reviews."}, nil},
		{"enough dots", "a.b", 1, []string{"a.b.", "a.b.prod.svc.cluster.local.", "a.b.corp.example.com."}, []string{"a.b."}},
		{"too few dots", "a.b", 2, []string{"a.b.prod.svc.cluster.local.", "a.b.corp.example.com.", "a.b."}, nil},
		{"a dot at the end", "a.b.", 5, []string{"a.b."}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := searched(test.asked, search, test.ndots, false); !slices.Equal(got, test.want) {
				t.Errorf("glibc: got %q, want %q", got, test.want)
			}
			want := test.musl
			if want == nil {
				want = test.want
			}
			if got := searched(test.asked, search, test.ndots, true); !slices.Equal(got, want) {
				t.Errorf("musl: got %q, want %q", got, want)
			}
		})
	}
}

// vmFolder is a machine with files.
func vmFolder(t *testing.T, files map[string]string) redirect.Machine {
	t.Helper()
	m := redirect.Machine{Root: t.TempDir()}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.Path(path), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestLibraryView(t *testing.T) {
	v := viewOf(vmFolder(t, map[string]string{
		"/etc/resolv.conf":   "nameserver 10.0.0.1 # ours\nnameserver 10.0.0.2\nsearch a.example b.example # both\noptions ndots:2\n",
		"/etc/nsswitch.conf": "hosts: files mdns4_minimal resolve [!UNAVAIL=return] dns\n",
		"/etc/hosts":         "127.0.0.1 localhost\n10.0.0.9 Web.example web # here\n",
	}), "web")
	if !v.HostsFile || v.Ndots != 2 || !slices.Equal(v.Servers, []string{"10.0.0.1", "10.0.0.2"}) || !slices.Equal(v.Search, []string{"a.example", "b.example"}) {
		t.Errorf("got %+v", v)
	}
	for _, want := range []string{"systemd-resolved", "mdns4_minimal", "musl all at once"} {
		if !strings.Contains(strings.Join(v.Notes, "\n"), want) {
			t.Errorf("Notes: got %q, want one with %q", v.Notes, want)
		}
	}
}

// serveExplanations answers as CoreDNS does that knows one name.
func serveExplanations(t *testing.T, known string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "status.sock")
	server, err := status.Serve(socket, status.Source{
		Report: func() status.Report { return status.Report{Servers: []status.Listener{{Address: "127.0.0.1:53"}}} },
		Explain: func(q status.Question) (status.Explanation, error) {
			e := status.Explanation{Name: strings.TrimSuffix(q.Name, "."), Type: q.Type, Outcome: "nxdomain", Reason: "nobody", Rcode: "NXDOMAIN", Nearest: []string{known}, Hints: []string{"ask the syncer"}}
			if e.Name == known {
				e.Outcome, e.Rcode, e.Records, e.Host, e.Match = "answered", "NOERROR", []string{known + ". 30 IN A 10.96.0.1"}, known, "exact"
				e.Claims = []status.Claim{
					{Object: "Service prod/reviews", Winner: true, Reason: "it wins", Addresses: []string{"10.96.0.1"}, AddressKind: "cluster-ip"},
					{Object: "ServiceEntry mesh/reviews", Reason: "it loses"},
				}
			}
			return e, nil
		},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return socket
}

func TestExplain(t *testing.T) {
	socket := serveExplanations(t, "reviews.prod.svc.cluster.local")
	machine := vmFolder(t, map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\nsearch vm.svc.cluster.local prod.svc.cluster.local\n"})
	tests := []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"through the search list", []string{"reviews"}, exitFound,
			[]string{"reviews.prod.svc.cluster.local A: answered", "10.96.0.1", "+ Service prod/reviews", "- ServiceEntry mesh/reviews", "it loses", "resolv.conf names CoreDNS itself", "1  reviews.vm.svc.cluster.local.    nxdomain  comes here"}},
		{"not there", []string{"nope.prod.svc.cluster.local."}, exitNotFound, []string{"NXDOMAIN", "like it", "ask the syncer"}},
		{"as JSON", []string{"reviews"}, exitFound, []string{`"outcome": "answered"`, `"names": [`}},
		{"an address", []string{"10.0.0.1"}, exitNotFound, []string{"1.0.0.10.in-addr.arpa PTR"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			x := explaining{machine: machine, socket: socket, output: "text", timeout: 1e10}
			if test.name == "as JSON" {
				x.output = "json"
			}
			if err := x.check(test.args); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			if code := x.run(t.Context(), &stdout, &stderr); code != test.code {
				t.Errorf("exit code: got %d, want %d; %s", code, test.code, &stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("got\n%s\nwant %q in it", &stdout, want)
				}
			}
		})
	}
	for _, bad := range [][]string{{}, {"a", "b"}, {"."}, {"a", "--type", "NONSENSE"}, {"a", "-o", "xml"}} {
		if code, _, stderr := meshvmctl(t, append([]string{"explain"}, bad...)...); code != exitUsage || stderr == "" {
			t.Errorf("%q: got %d, %q, want wrong usage", bad, code, stderr)
		}
	}
	if code, _, stderr := meshvmctl(t, "explain", "a", "--socket", "/nonexistent/status.sock"); code != exitUnreachable || !strings.Contains(stderr, "no socket") {
		t.Errorf("Nobody there: got %d, %q, want that there is no socket", code, stderr)
	}
}
