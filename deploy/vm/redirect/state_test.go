package redirect

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUnusableState holds that a file that is not one of this program's States is named, with the reason, set aside and not believed.
func TestUnusableState(t *testing.T) {
	state := func(content string) func(*owned) { return func(w *owned) { w.write(StateFile, content) } }
	cases := map[string]struct {
		change func(*owned)
		want   string
	}{
		"empty":           {state(""), "it is empty"},
		"torn":            {state(`{"version": 1, "plan": {"mo`), "it is torn or no JSON: unexpected end of JSON input"},
		"no JSON":         {state("nameserver 192.0.2.1\n"), "it is torn or no JSON"},
		"no version":      {state(`{"plan": {"mode": "direct"}}`), "it has no version"},
		"a newer version": {state(`{"version": 2, "plan": "in another form"}`), "it is of version 2, and this program knows up to 1"},
		"another form":    {state(`{"version": 1, "plan": "direct"}`), "it is torn: json: cannot unmarshal"},
		"an unknown mode": {state(`{"version": 1, "plan": {"mode": "magic", "server": "127.0.0.1:53", "all_names": true, "why": ""}}`), `it has the unknown mode "magic"`},
		"too large":       {state(strings.Repeat(" ", stateLimit+1)), "it is larger than"},
		"a symbolic link": {func(w *owned) { w.must(unlessMissing(os.Remove(w.Path(StateFile)))).link(StateFile, "/etc/passwd") }, "it is a symbolic link"},
		"a pipe": {func(w *owned) {
			w.must(unlessMissing(os.Remove(w.Path(StateFile)))).must(unix.Mkfifo(w.Path(StateFile), 0o600))
		}, "it is no file but p---------"},
		"written by all": {func(w *owned) { w.must(os.Chmod(w.Path(StateFile), 0o666)) }, "others can write it (-rw-rw-rw-)"},
		"a folder":       {func(w *owned) { w.must(os.Remove(w.Path(StateFile))).folder(StateFile) }, "it is no file but d---------"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newOwned(t)
			before := w.snapshot()
			if _, err := w.apply(w.plan(Resolved)); err != nil {
				t.Fatal(err)
			}
			c.change(w)
			_, err := LoadState(w.Machine)
			var unusable *UnusableState
			if !errors.As(err, &unusable) || unusable.File != w.Path(StateFile) || !strings.Contains(unusable.Reason, c.want) {
				t.Errorf("LoadState: got %v, want %q of %s", err, c.want, w.Path(StateFile))
			}
			if _, err := Stand(w.Machine); !errors.As(err, &unusable) {
				t.Errorf("Stand: got %v, want that nobody can tell", err)
			}
			outcome, err := w.revert()
			if err != nil || len(outcome.Warnings) != 1 || !strings.Contains(outcome.Warnings[0], c.want) || !strings.Contains(outcome.Warnings[0], stateAside) {
				t.Errorf("Revert: got %+v, %v; want a warning with %q", outcome, err, c.want)
			}
			if after := w.snapshot(); after != before {
				t.Errorf("Machine after Revert:\n got %s\nwant %s", after, before)
			}
			if there, err := w.exists(stateAside); !there || err != nil {
				t.Errorf("File set aside: got %t, %v; want it kept", there, err)
			}
			if _, err := w.apply(w.plan(Resolved)); err != nil {
				t.Errorf("Apply afterwards: %v", err)
			}
		})
	}
}

// TestUpdate holds that what others remember in the State is there, and that nothing is made where there is none.
func TestUpdate(t *testing.T) {
	w := newOwned(t)
	fight := func(s *State) { s.Fight = "ten times in five seconds" }
	if err := Update(t.Context(), w.Machine, fight); err != nil {
		t.Errorf("Update without a State: %v", err)
	}
	if there, err := w.exists(StateFile); there || err != nil {
		t.Errorf("State: got %t, %v; want none", there, err)
	}
	if _, err := w.apply(w.plan(Direct)); err != nil {
		t.Fatal(err)
	}
	if s, err := Stand(w.Machine); err != nil || !s.InForce {
		t.Errorf("Stand: got %+v, %v; want it in force", s, err)
	}
	if err := Update(t.Context(), w.Machine, fight); err != nil {
		t.Fatal(err)
	}
	if s, err := Stand(w.Machine); err != nil || s.InForce || s.Fight != "ten times in five seconds" || len(s.Missing) > 0 {
		t.Errorf("Stand: got %+v, %v; want a fight", s, err)
	}
}

// TestLock holds that two runs do not overlap, and that one waits no longer than it may.
func TestLock(t *testing.T) {
	m := Machine{Root: t.TempDir()}
	unlock, err := m.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockPoll)
	defer cancel()
	if _, err := Revert(ctx, m); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("Revert while another run changes the machine: got %v, want whom it waited for", err)
	}
	waited := make(chan error, 1)
	go func() {
		next, err := m.lock(t.Context())
		if err == nil {
			next()
		}
		waited <- err
	}()
	unlock()
	select {
	case err := <-waited:
		if err != nil {
			t.Errorf("Lock after the other run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Lock after the other run: got none in 10 s")
	}
	led := Machine{Root: t.TempDir()}
	if err := errors.Join(os.MkdirAll(led.Path("/run/meshvm-redirect"), 0o700), os.Symlink("/etc/passwd", led.Path(lockFile))); err != nil {
		t.Fatal(err)
	}
	if _, err := led.lock(t.Context()); !errors.Is(err, unix.ELOOP) {
		t.Errorf("Lock by a symbolic link: got %v, want that it is not followed", err)
	}
}
