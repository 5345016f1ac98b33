package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestKilled holds that Revert gives the machine back byte for byte after an Apply, or a Revert, that failed or was killed at any of its
// operations on files and commands.
func TestKilled(t *testing.T) {
	for mode, setup := range setups() {
		for _, from := range []string{"own resolution", "other domains", "another mode", "reverting", "withdrawing"} {
			for _, kill := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/killed=%t", mode, from, kill), func(t *testing.T) {
					t.Parallel() // Each waits for the disk most of the time.
					for fail := 1; ; fail++ {
						if !survives(t, setup(t), mode, from, fail, kill) {
							if fail < 3 {
								t.Errorf("Operations: got %d, want more", fail-1)
							}
							return
						}
					}
				})
			}
		}
	}
}

// survives is false where there are fewer operations than the one that is to fail.
func survives(t *testing.T, w *owned, mode Mode, from string, fail int, kill bool) bool {
	t.Helper()
	before := w.snapshot()
	prepare := w.plan(mode)
	run := func() error { _, err := w.apply(w.plan(mode)); return err }
	switch from {
	case "other domains":
		prepare.Domains, prepare.Search = []string{"cluster.local"}, []string{"cluster.local"}
	case "another mode":
		prepare = w.plan(Direct)
		if mode == Direct {
			prepare = w.plan(Resolved)
		}
	case "reverting":
		run = func() error { _, err := w.revert(); return err }
	case "withdrawing":
		run = func() error { _, err := Withdraw(t.Context(), w.Machine, "the test says so"); return err }
	}
	if from != "own resolution" {
		if _, err := w.apply(prepare); err != nil {
			t.Fatalf("Apply what was before: %v", err)
		}
	}
	w.operations, w.fail, w.kill = 0, fail, kill
	err := run()
	reached := w.operations >= fail
	w.fail = 0
	if reached && kill && err == nil {
		t.Errorf("Run killed at operation %d: got no error, want one", fail)
	}
	if from == "own resolution" && err != nil && !kill {
		if after := w.snapshot(); after != before {
			t.Errorf("Machine after Apply has failed at operation %d with %v:\n got %s\nwant %s", fail, err, after, before)
		}
	}
	if _, err := w.revert(); err != nil {
		t.Errorf("Revert after operation %d: %v", fail, err)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("Machine after operation %d and Revert:\n got %s\nwant %s", fail, after, before)
	}
	if left, err := os.ReadDir(w.Path("/var/lib/meshvm-redirect")); unlessMissing(err) != nil || len(left) > 0 {
		t.Errorf("Folder of the state after operation %d and Revert: got %v (%v), want it empty", fail, left, err)
	}
	if strings.Contains(w.read("/run/meshvm-redirect/resolvconf"), "nameserver") {
		t.Errorf("Record after operation %d and Revert: got it, want none", fail)
	}
	return reached
}

// TestTransparentApplied holds that the rules of nftables come and go with the redirect, come back where a firewall has flushed them, and
// are gone after a Revert, whatever was killed before.
func TestTransparentApplied(t *testing.T) {
	for kill := range 30 {
		w := newOwned(t)
		w.tables = map[string]string{}
		w.write("/etc/passwd", "meshvm:x:998:998:::\n")
		w.write("/etc/group", "meshvm:x:998:\n")
		before := w.snapshot()
		p := w.plan(Direct)
		p.Transparent, p.Upstreams = true, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}
		w.operations, w.fail, w.kill = 0, kill, true
		_, err := w.apply(p)
		killed := kill > 0 && w.operations >= kill
		w.fail = 0
		if killed != (err != nil) {
			t.Errorf("Apply killed at operation %d: got %v", kill, err)
		}
		if kill == 0 {
			loaded := w.tables["ip"]
			if !strings.Contains(loaded, "dnat to "+w.coreDNS.String()) {
				t.Errorf("Rules: got %q, want them to lead to %s", loaded, w.coreDNS)
			}
			if outcome, err := w.apply(p); err != nil || outcome.Changed {
				t.Errorf("Apply again: got %+v, %v; want no change", outcome, err)
			}
			delete(w.tables, "ip")
			if _, err := w.apply(p); err != nil || w.tables["ip"] != loaded {
				t.Errorf("Apply after a flush: got %q, %v; want the rules back", w.tables["ip"], err)
			}
		}
		if _, err := w.revert(); err != nil {
			t.Errorf("Revert after operation %d: %v", kill, err)
		}
		if after := w.snapshot(); after != before || len(w.tables) > 0 {
			t.Errorf("Machine after operation %d and Revert:\n got %s and %v\nwant %s", kill, after, w.tables, before)
		}
	}
}

// TestTransparentRulesThatStay holds that rules of nftables that could not be removed are remembered until they are, also where the Plan
// has none any more.
func TestTransparentRulesThatStay(t *testing.T) {
	w := newOwned(t)
	w.tables = map[string]string{}
	w.write("/etc/passwd", "meshvm:x:998:998:::\n")
	w.write("/etc/group", "meshvm:x:998:\n")
	p := w.plan(Direct)
	p.Transparent, p.Upstreams = true, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}
	if _, err := w.apply(p); err != nil {
		t.Fatal(err)
	}
	run := w.Run
	w.Run = runner(func(line string) ([]byte, error, bool) {
		return nil, errors.New("exit status 1"), strings.HasPrefix(line, "nft ")
	}, run)
	p.Transparent = false
	if _, err := w.apply(p); err == nil || !strings.Contains(err.Error(), "remove the rules of nftables") {
		t.Errorf("Apply without rules: got %v, want that they could not be removed", err)
	}
	for range 2 {
		if _, err := w.revert(); err == nil || !strings.Contains(err.Error(), "remove the rules of nftables") {
			t.Errorf("Revert: got %v, want that they could not be removed", err)
		}
	}
	w.Run = run
	if _, err := w.revert(); err != nil || len(w.tables) > 0 {
		t.Errorf("Revert when nft works: got %v, tables %v; want none", err, w.tables)
	}
	if _, err := w.apply(p); err != nil {
		t.Errorf("Apply after it: %v", err)
	}
	if s, err := LoadState(w.Machine); err != nil || s.Rules {
		t.Errorf("State: got %+v, %v; want no rules remembered", s, err)
	}
}
