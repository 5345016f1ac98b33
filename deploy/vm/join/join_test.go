package join

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/meshvm/meshvm/plugin/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// vm is a machine in a folder, with units that go as systemctl is told, a status socket and a DNS server that really answer.
type vm struct {
	Machine
	mutex   sync.Mutex
	running map[string]bool
	enabled map[string]bool
	// starts is a unit that is starting, and not ready yet.
	starts string
	ran    []string
	fails  string // what systemctl or getent refuses
	mirror status.Mirror
	dns    string
}

func newVM(t *testing.T) *vm {
	t.Helper()
	v := &vm{Machine: image(t), running: map[string]bool{}, enabled: map[string]bool{}, mirror: status.Mirror{Syncers: []string{"syncer:15054"}, Zones: []string{"cluster.local."}, Synced: true}}
	v.runs, v.Run = true, v.run
	v.serveNames(t)
	socket := v.path(status.DefaultSocket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	server, err := status.Serve(socket, status.Source{
		Report: func() status.Report {
			return status.Report{At: time.Now(), Mirrors: []status.Mirror{v.mirror}, Servers: []status.Listener{{Address: v.dns}}}
		},
		Hosts: func() []string { return []string{"*.wild.example.org", "payments.example.org"} },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return v
}

// serveNames answers for one host.
func (v *vm) serveNames(t *testing.T) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v.dns = socket.LocalAddr().String()
	started := make(chan struct{})
	server := &dns.Server{PacketConn: socket, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if name := q.Question[0]; name.Name == "payments.example.org." && name.Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(240, 240, 0, 1)}}
		}
		if err := w.WriteMsg(answer); err != nil {
			t.Errorf("answer: %v", err)
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(), <-ended); err != nil {
			t.Errorf("DNS server: %v", err)
		}
	})
}

func (v *vm) run(_ context.Context, name string, arguments ...string) ([]byte, error) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	line := name + " " + strings.Join(arguments, " ")
	if name != "systemctl" {
		if name == v.fails {
			return nil, errors.New("exit status 2")
		}
		return []byte("a line of the log\n"), nil
	}
	unit := arguments[len(arguments)-1]
	switch arguments[0] {
	case "is-active", "is-enabled":
		if arguments[0] == "is-active" && unit == v.starts {
			return []byte("activating\n"), errors.New("exit status 3")
		}
		if !map[string]map[string]bool{"is-active": v.running, "is-enabled": v.enabled}[arguments[0]][unit] {
			return nil, errors.New("exit status 3")
		}
		return nil, nil
	}
	v.ran = append(v.ran, strings.TrimPrefix(line, "systemctl "))
	if line == v.fails {
		return []byte("Job failed.\n"), errors.New("exit status 1")
	}
	switch arguments[0] {
	case "enable", "disable":
		v.enabled[unit] = arguments[0] == "enable"
	case "start", "restart", "stop":
		v.running[unit] = arguments[0] != "stop"
	}
	return nil, nil
}

// on are the units that are so.
func on(units map[string]bool) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name, is := range maps.All(units) {
			if is && !yield(name) {
				return
			}
		}
	})
}

func TestJoin(t *testing.T) {
	v := newVM(t)
	b := goodBundle(t)
	outcome, err := v.Join(t.Context(), b, Wish{Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := outcome.Answer, "payments.example.org"; got.Name != want || !slices.Equal(got.Addresses, []string{"240.240.0.1"}) {
		t.Errorf("Answer: got %+v, want %s", got, want)
	}
	if got, want := on(v.running), []string{redirectUnit, serviceUnit}; !slices.Equal(got, want) {
		t.Errorf("Running: got %q, want %q", got, want)
	}
	if got, want := on(v.enabled), []string{recoverUnit, redirectUnit, serviceUnit}; !slices.Equal(got, want) {
		t.Errorf("Enabled: got %q, want %q", got, want)
	}

	v.ran = nil
	if outcome, err = v.Join(t.Context(), b, Wish{Wait: time.Minute}); err != nil || len(outcome.Changed) > 0 {
		t.Errorf("Join again: changed %q, %v, want nothing", outcome.Changed, err)
	}
	if slices.ContainsFunc(v.ran, func(line string) bool { return strings.HasPrefix(line, "restart") }) {
		t.Errorf("Join again: ran %q, want no restart", v.ran)
	}

	b["token"], v.ran = token(time.Now().Add(2*time.Hour)), nil
	if _, err = v.Join(t.Context(), b, Wish{Wait: time.Minute}); err != nil || !slices.Contains(v.ran, "restart "+serviceUnit) {
		t.Errorf("Join with another token: ran %q, %v, want a restart", v.ran, err)
	}
}

func TestJoinWithoutRedirect(t *testing.T) {
	v := newVM(t)
	outcome, err := v.Join(t.Context(), goodBundle(t), Wish{NoRedirect: true, Wait: time.Minute})
	if err != nil || outcome.Answer.ByMachine {
		t.Errorf("Join: got %+v, %v, want an answer of CoreDNS", outcome.Answer, err)
	}
	if got := slices.Concat(on(v.running), on(v.enabled)); !slices.Equal(got, []string{serviceUnit, serviceUnit}) {
		t.Errorf("Running and enabled: got %q, want %s only", got, serviceUnit)
	}
}

// TestJoinFails: whatever fails, a machine that had not joined has not, and one that had still has with what it had.
func TestJoinFails(t *testing.T) {
	tests := map[string]struct {
		fault func(*vm)
		want  []string
	}{
		"the service does not start":  {func(v *vm) { v.fails = "systemctl start " + serviceUnit }, []string{"systemctl start meshvm.service: exit status 1", "Job failed.", "a line of the log"}},
		"it does not restart":         {func(v *vm) { v.fails = "systemctl restart " + serviceUnit }, []string{"systemctl restart meshvm.service"}},
		"the redirect does not start": {func(v *vm) { v.fails = "systemctl start " + redirectUnit }, []string{"meshvmctl redirect plan", "--no-redirect"}},
		"the syncer refuses": {func(v *vm) {
			v.mirror.Synced, v.mirror.Problem = false, &status.Problem{Message: "the token is for somebody else", Remedy: "make another"}
		}, []string{"not done within", "syncer:15054: the token is for somebody else", "what to do: make another"}},
	}
	for name, test := range tests {
		for _, joined := range []bool{false, true} {
			if test.want[0] == "systemctl restart meshvm.service" && !joined || strings.HasPrefix(test.want[0], "systemctl start") && joined {
				continue // it is the other one then
			}
			t.Run(name+map[bool]string{false: ", new", true: ", joined"}[joined], func(t *testing.T) {
				v := newVM(t)
				if joined {
					if _, err := v.Join(t.Context(), goodBundle(t), Wish{NoRedirect: true, Wait: time.Minute}); err != nil {
						t.Fatal(err)
					}
				}
				files, running, enabled := installed(t, v.Machine), on(v.running), on(v.enabled)
				test.fault(v)
				b := goodBundle(t)
				b["Corefile"] = append(b["Corefile"], "# another\n"...)
				_, err := v.Join(t.Context(), b, Wish{Wait: time.Second})
				for _, want := range test.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("got %v, want it to say %q", err, want)
					}
				}
				after := installed(t, v.Machine)
				delete(files, "Corefile.old")
				delete(after, "Corefile.old")
				if !maps.Equal(after, files) {
					t.Errorf("Files: got %q, want %q", after, files)
				}
				if !slices.Equal(on(v.running), running) || !slices.Equal(on(v.enabled), enabled) {
					t.Errorf("Running %q, enabled %q; want %q and %q", on(v.running), on(v.enabled), running, enabled)
				}
			})
		}
	}
}

// TestJoinFailsWhileStarting: a service that waits for what it needs goes on to when it is not to join after all.
func TestJoinFailsWhileStarting(t *testing.T) {
	v := newVM(t)
	v.enabled[serviceUnit], v.running[serviceUnit], v.starts = true, true, serviceUnit
	v.mirror.Synced = false
	if _, err := v.Join(t.Context(), goodBundle(t), Wish{Wait: time.Second}); err == nil {
		t.Fatal("joined without a syncer, want an error")
	}
	if got, want := on(v.running), []string{serviceUnit}; !slices.Equal(got, want) {
		t.Errorf("Running: got %q, want %q", got, want)
	}
	want := []string{"enable " + serviceUnit, "restart " + serviceUnit, "disable " + redirectUnit, "stop " + redirectUnit, "disable " + recoverUnit, "restart --no-block " + serviceUnit}
	if !slices.Equal(v.ran, want) {
		t.Errorf("Ran: got %q, want %q", v.ran, want)
	}
}
