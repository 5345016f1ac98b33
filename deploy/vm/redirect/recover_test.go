package redirect

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// powerCut is what a boot after one finds early: /run is empty, and nobody runs yet.
func (w *owned) powerCut() {
	w.tb.Helper()
	w.write("/proc/sys/kernel/random/boot_id", "boot-2\n")
	for _, folder := range []string{"/run/systemd/resolved.conf.d", "/run/systemd/dns-delegate.d", "/run/NetworkManager/conf.d", "/run/resolvconf/interface", "/run/resolvconf/interfaces", "/run/resolvconf/exclusive", "/run/meshvm-redirect"} {
		w.must(os.RemoveAll(w.Path(folder)))
	}
	for _, folder := range []string{"/run/resolvconf/interface", "/run/resolvconf/interfaces"} {
		w.folder(folder) // as newOwned has them
	}
	w.running = map[string]bool{}
	w.commands = nil
}

func (w *owned) recover() Outcome {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(w.tb.Context(), 30*time.Second)
	defer cancel()
	outcome, err := Recover(ctx, w.Machine)
	if err != nil {
		w.tb.Errorf("Recover: %v", err)
	}
	return outcome
}

// gone fails where the machine still asks CoreDNS, or remembers a redirect.
func (w *owned) gone() {
	w.tb.Helper()
	content := w.read(resolvConf)
	if servers := resolvconf.Parse([]byte(content)).Servers; len(servers) != 1 || servers[0] != w.resolver.Addr() || written([]byte(content)) {
		w.tb.Errorf("resolv.conf: got %q, want the machine's own", content)
	}
	if state, err := LoadState(w.Machine); state != nil || err != nil {
		w.tb.Errorf("State: got %+v, %v; want none", state, err)
	}
}

// TestRecover goes through a power cut in each mode, at each moment at which it matters.
func TestRecover(t *testing.T) {
	for mode, setUp := range setups() {
		for name, happens := range map[string]func(*owned){
			"applied":                    func(*owned) {},
			"applied and withdrawn":      func(w *owned) { w.withdraw() },
			"applied, and others fought": func(w *owned) { w.must(Update(w.tb.Context(), w.Machine, func(s *State) { s.Fight = "since then" })) },
			"while it was reverted":      func(w *owned) { w.must(Update(w.tb.Context(), w.Machine, func(s *State) { s.Applied = false })) },
		} {
			t.Run(string(mode)+"/"+name, func(t *testing.T) {
				w := setUp(t)
				if _, err := w.apply(w.plan(mode)); err != nil {
					t.Fatal(err)
				}
				happens(w)
				w.powerCut()
				outcome := w.recover()
				w.gone()
				if len(outcome.Warnings) > 0 {
					t.Errorf("Warnings: got %q, want none", outcome.Warnings)
				}
				// A command for a daemon that is started later would wait for it, and it for us.
				for _, command := range w.commands {
					if strings.Contains(command, "restart") {
						t.Errorf("Commands early at boot: got %q, want none that starts somebody", command)
					}
				}
				before := w.snapshot()
				if again := w.recover(); again.Changed || w.snapshot() != before {
					t.Errorf("Recovered again: got %+v, want nothing to do", again)
				}
			})
		}
	}
}

// TestRecoverLeavesThisBootAlone has the unit run by hand, or twice.
func TestRecoverLeavesThisBootAlone(t *testing.T) {
	for mode, setUp := range setups() {
		t.Run(string(mode), func(t *testing.T) {
			w := setUp(t)
			if _, err := w.apply(w.plan(mode)); err != nil {
				t.Fatal(err)
			}
			before, state := w.snapshot(), w.read(StateFile)
			w.commands = nil
			if outcome := w.recover(); outcome.Changed || len(outcome.Warnings) > 0 {
				t.Errorf("Recover: got %+v, want nothing to do", outcome)
			}
			if w.snapshot() != before || w.read(StateFile) != state {
				t.Error("Machine: got another one, want it as it was")
			}
			if len(w.commands) > 0 {
				t.Errorf("Commands: got %q, want none", w.commands)
			}
		})
	}
}

// TestRecoverWithoutAStateThatCanBeRead has the power go while the State was written, and a disk lose it.
func TestRecoverWithoutAStateThatCanBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*owned)
		warns  string
	}{
		"torn":               {func(w *owned) { w.write(StateFile, `{"version": 1, "boot": "bo`) }, "cannot be used: it is torn"},
		"of a newer version": {func(w *owned) { w.write(StateFile, `{"version": 99}`) }, "cannot be used: it is of version 99"},
		"lost":               {func(w *owned) { w.must(os.Remove(w.Path(StateFile))) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOwned(t)
			if _, err := w.apply(w.plan(Direct)); err != nil {
				t.Fatal(err)
			}
			c.change(w)
			w.powerCut()
			w.write(lastUpstreamsFile, "nameserver 127.0.0.53\nnameserver 192.0.2.53\n")
			outcome := w.recover()
			if content := w.read(resolvConf); !strings.Contains(content, "nameserver 192.0.2.53\n") || strings.Contains(content, "127.0.0.1") {
				t.Errorf("resolv.conf: got %q, want the resolver that was known last", content)
			}
			if got := strings.Join(outcome.Warnings, "; "); !strings.Contains(got, c.warns) || (got == "") != (c.warns == "") {
				t.Errorf("Warnings: got %q, want %q", got, c.warns)
			}
		})
	}
}
