package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

// serveStatus is a socket where a VM's process says this.
func serveStatus(t *testing.T, report status.Report) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "status.sock")
	server, err := status.Serve(socket, status.Source{Report: func() status.Report { return report }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return socket
}

func TestStatus(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	well := func(edit func(*status.Mirror)) status.Report {
		m := status.Mirror{
			Syncers: []string{"a:15054", "b:15054"}, Namespace: "prod", Node: "vm-1",
			ConnectedAddress: "b:15054", Since: at.Add(-time.Hour), Synced: true, Loaded: true, View: "prod", Generation: "g1", Revision: 12, Resources: 345,
			ConfirmedAt: at.Add(-2 * time.Second), StalenessSeconds: 2, MaxStaleSeconds: 3600, SnapshotFile: "/var/lib/meshvm/registry.snapshot",
			Credentials: []status.Credential{{Kind: "token", File: "/etc/meshvm/token", Subject: "system:serviceaccount:prod:billing", Expires: at.Add(time.Hour)}},
		}
		edit(&m)
		return status.Report{Version: "1.0", At: at, Mirrors: []status.Mirror{m}}
	}
	tests := []struct {
		name   string
		report status.Report
		code   int
		want   []string
	}{
		{"all is well", well(func(*status.Mirror) {}), exitFound, []string{
			"a:15054 b:15054 (namespace prod, node vm-1)", "b:15054 since 2026-03-01T11:00:00Z (1h0m0s ago), in step", "revision 12 of g1, 345 resources as namespace prod sees them, current 2026-03-01T11:59:58Z (2s ago)",
			"/etc/meshvm/token of system:serviceaccount:prod:billing, until 2026-03-01T13:00:00Z (in 1h0m0s)", "/var/lib/meshvm/registry.snapshot",
		}},
		{"a syncer that refuses", well(func(m *status.Mirror) {
			m.ConnectedAddress, m.Since = "", at.Add(-3*time.Minute)
			m.Problem = &status.Problem{Since: at.Add(-3 * time.Minute), At: at, Cause: "unauthenticated", Reason: "EXPIRED", Message: "no\x1b[2Jtoken", Remedy: "renew it: meshvmctl token"}
		}), exitNotFound, []string{"none since 2026-03-01T11:57:00Z (3m0s ago)", "EXPIRED: no?[2Jtoken", "remedy", "renew it: meshvmctl token", "no syncer is followed"}},
		{"a token that has ended", well(func(m *status.Mirror) { m.Credentials[0].Expires = at.Add(-time.Minute) }), exitNotFound, []string{"the token in /etc/meshvm/token ended 1m0s ago"}},
		{"a token that cannot be read", well(func(m *status.Mirror) {
			m.Credentials[0] = status.Credential{Kind: "token", File: "/t", Fault: "permission denied"}
		}), exitNotFound, []string{"/t, cannot be used", "permission denied"}},
		{"a stale registry", well(func(m *status.Mirror) { m.StalenessSeconds = 7200 }), exitNotFound, []string{"last known to be current 2h0m0s ago"}},
		{"nothing loaded", well(func(m *status.Mirror) { m.Loaded = false }), exitNotFound, []string{"no registry was ever loaded"}},
		{"no meshvm in the Corefile", status.Report{At: at}, exitFound, []string{"no mirror"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			socket := serveStatus(t, test.report)
			code, stdout, stderr := meshvmctl(t, "status", "--socket", socket)
			if code != test.code || stderr != "" {
				t.Errorf("exit %d, stderr %q, want exit %d", code, stderr, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("got:\n%s\nwant %q in it", stdout, want)
				}
			}
			if strings.Contains(stdout, "\x1b") {
				t.Errorf("got %q, want nothing that commands a terminal", stdout)
			}
			code, stdout, _ = meshvmctl(t, "status", "--socket", socket, "-o", "json")
			var got status.Report
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Mirrors) != len(test.report.Mirrors) || code != test.code {
				t.Errorf("json: exit %d, %v, %s; want exit %d and the report", code, err, stdout, test.code)
			}
		})
	}
}

func TestStatusFaults(t *testing.T) {
	tests := []struct{ name, args, want string }{
		{"no socket", "--socket " + filepath.Join(t.TempDir(), "none.sock"), "there is no socket"},
		{"an argument", "vm-1", `unexpected argument "vm-1"`},
		{"another format", "-o yaml", "want text or json"},
		{"no time", "--timeout 0s", "want more than nothing"},
		{"no name", "--socket=", "--socket is empty"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, append([]string{"status"}, strings.Fields(test.args)...)...)
			if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and %q", code, stdout, stderr, exitUsage, test.want)
			}
		})
	}
}

// TestStatusOfTheMachine adds what the machine says to what CoreDNS does.
func TestStatusOfTheMachine(t *testing.T) {
	report := status.Report{Servers: []status.Listener{{Address: "127.0.0.1:53"}}, Upstreams: []string{"192.0.2.53:53"}}
	state := func(withdrawn string) map[string]string {
		return map[string]string{redirect.StateFile: `{"version":1,"boot":"b","applied":true,"withdrawn":"` + withdrawn + `","plan":{"mode":"direct","server":"127.0.0.1:53","all_names":true}}`}
	}
	tests := []struct {
		name    string
		files   map[string]string
		healthy bool
		want    string
	}{
		{"nothing redirected", nil, true, "upstreams  192.0.2.53:53"},
		{"withdrawn", state("since noon"), false, "redirect   direct, withdrawn since noon"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := vmStatus{machine: vmFolder(t, test.files), output: "text"}
			shown := s.view(report)
			if shown.Healthy != test.healthy {
				t.Errorf("Healthy: got %t with %q, want %t", shown.Healthy, shown.Faults, test.healthy)
			}
			var text bytes.Buffer
			if err := s.print(&text, shown); err != nil || !strings.Contains(text.String(), test.want) {
				t.Errorf("got\n%s%v\nwant %q", &text, err, test.want)
			}
			text.Reset()
			s.output = "json"
			if err := s.print(&text, shown); err != nil || !strings.Contains(text.String(), `"healthy": `+strconv.FormatBool(test.healthy)) || !strings.Contains(text.String(), `"upstreams": [`) {
				t.Errorf("got\n%s%v\nwant whether it is healthy, and upstreams", &text, err)
			}
		})
	}
}
