package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so after 30 s", what)
		}
	}
}

// TestRedirectWatch has a redirect that was applied by hand, with every name, kept as it was.
func TestRedirectWatch(t *testing.T) {
	_, socket := serveMesh(t)
	machine := resolvedMachine(t)
	var out bytes.Buffer
	apply := func(args ...string) {
		t.Helper()
		a := redirectApply{machine: machine, decide: decideRedirect}
		if code := a.run(t.Context(), append(args, "--mode", "resolved", "--socket", socket), &out, &out); code != exitDone {
			t.Fatalf("Apply: got %d, %q; want %d", code, out.String(), exitDone)
		}
	}
	apply("--all-names")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	var told []string
	w := redirectWatch{machine: machine, tell: func(state string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, state)
	}}
	var watched bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- w.run(ctx, []string{"--socket", socket}, &watched, &watched) }()
	status := func(want string) {
		t.Helper()
		eventually(t, "told "+want, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(told) > 0 && told[len(told)-1] == want
		})
	}
	status("STATUS=mode resolved, names all")

	const dropIn = "/run/systemd/resolved.conf.d/50-meshvm.conf"
	if err := os.Remove(machine.Path(dropIn)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was removed is there again", func() bool {
		standing, err := redirect.Stand(machine)
		return err == nil && standing.InForce
	})
	standing, err := redirect.Stand(machine)
	if err != nil || !standing.Plan.AllNames || standing.Plan.Wished != (redirect.Wished{Mode: redirect.Resolved, AllNames: true}) {
		t.Errorf("Standing: got %+v, %v; want every name, as was asked for by hand", standing, err)
	}
	apply()
	status("STATUS=mode resolved, names of 2 domains")
	stop()
	if code := <-ended; code != exitDone || !strings.Contains(watched.String(), dropIn) {
		t.Errorf("Watch: got %d, %q; want %d, and what was missing", code, watched.String(), exitDone)
	}
	if standing, err := redirect.Stand(machine); err != nil || !standing.InForce {
		t.Errorf("After the end: got %+v, %v; want it in force", standing, err)
	}
	content, err := os.ReadFile(machine.Path(redirect.UpstreamsFile))
	if err != nil || !strings.Contains(string(content), "nameserver 192.0.2.53\n") {
		t.Errorf("Upstreams: got %q, %v; want the machine's resolver", content, err)
	}
}

func TestRedirectWatchRefused(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a flag of apply": {[]string{"--all-names"}, "unknown flag: --all-names"},
		"an argument":     {[]string{"now"}, `unexpected argument "now"`},
		"no socket":       {[]string{"--socket", ""}, "--socket is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w := redirectWatch{machine: redirect.Machine{Root: t.TempDir()}}
			if code := w.run(t.Context(), c.args, &out, &out); code != exitUsage || !strings.Contains(out.String(), c.want) {
				t.Errorf("Watch: got %d, %q; want %d, %q", code, out.String(), exitUsage, c.want)
			}
		})
	}
}

// TestRedirectRecover goes through a power cut.
func TestRedirectRecover(t *testing.T) {
	_, socket := serveMesh(t)
	machine := resolvedMachine(t)
	boot := func(id string) {
		t.Helper()
		const file = "/proc/sys/kernel/random/boot_id"
		if err := os.MkdirAll(machine.Path("/proc/sys/kernel/random"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(machine.Path(file), []byte(id+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, failures bytes.Buffer
	step := func(what string, want string) {
		t.Helper()
		out.Reset()
		failures.Reset()
		if code := recoverRedirect(t.Context(), machine, &out, &failures); code != exitDone || out.String() != want {
			t.Errorf("%s: got %d, %q, %q; want %d, %q", what, code, out.String(), failures.String(), exitDone, want)
		}
	}
	apply := func() {
		t.Helper()
		a := redirectApply{machine: machine, decide: decideRedirect}
		if code := a.run(t.Context(), []string{"--mode", "resolved", "--socket", socket}, &out, &out); code != exitDone {
			t.Fatalf("Apply: got %d, %q; want %d", code, out.String(), exitDone)
		}
	}
	const given = "what an earlier boot had redirected is given back\n"
	boot("1")
	step("nothing was ever redirected", "")
	apply()
	step("in the same boot", "")
	if standing, err := redirect.Stand(machine); err != nil || !standing.InForce {
		t.Errorf("In the same boot: got %+v, %v; want it in force", standing, err)
	}
	boot("2")
	step("after a power cut", given)
	if standing, err := redirect.Stand(machine); err != nil || standing.Applied {
		t.Errorf("After a power cut: got %+v, %v; want nothing applied", standing, err)
	}
	step("once more", "")
	apply()
	if err := os.WriteFile(machine.Path(redirect.StateFile), []byte(`{"version": 1, "bo`), 0o600); err != nil {
		t.Fatal(err)
	}
	step("with a torn state", given)
	if want := "warning: " + machine.Path(redirect.StateFile) + " cannot be used: it is torn"; !strings.Contains(failures.String(), want) {
		t.Errorf("With a torn state: got %q, want %q", failures.String(), want)
	}
	var refused bytes.Buffer
	if code := runRedirectRecover(t.Context(), []string{"now"}, &refused, &refused); code != exitUsage || !strings.Contains(refused.String(), `unexpected argument "now"`) {
		t.Errorf("With an argument: got %d, %q; want %d", code, refused.String(), exitUsage)
	}
}

// TestRedirectModesAsAMetric holds that CoreDNS tells each mode, of a file that this program has written, as one that all may read.
func TestRedirectModesAsAMetric(t *testing.T) {
	manual, err := os.ReadFile("../../plugin/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(manual), "`coredns_meshvm_redirect_mode{mode}`")
	text, _, _ = strings.Cut(text, "\n* `")
	for _, mode := range redirectModes() {
		if !strings.Contains(text, "`"+mode+"`") {
			t.Errorf("plugin/README.md, redirect_mode: got %q, want %q in it", text, mode)
		}
	}
}
