// Package corednstest builds and runs the real coredns binary for tests.
package corednstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Version is the version that the binary for tests says it has.
const Version = "v0.0.0-test"

// patience bounds every wait. It is long because machines that run tests are slow.
const patience = 60 * time.Second

// binary is the path of the binary that Main built.
var binary string

// Main builds the binary as a release is built, runs the tests of m, and returns
// the exit code for os.Exit. A TestMain calls it.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "corednstest")
	if err != nil {
		fmt.Fprintln(os.Stderr, "corednstest:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "coredns")
	//nolint:gosec // the only variable is a directory made above
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w -X main.version="+Version,
		"-o", binary, "github.com/meshvm/meshvm/build/coredns")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "corednstest: go build: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// Binary returns the path of the binary that Main built.
func Binary(tb testing.TB) string {
	tb.Helper()
	if binary == "" {
		tb.Fatal("corednstest.Main has not run: call it in TestMain")
	}
	return binary
}

// Process is a started coredns.
type Process struct {
	command *exec.Cmd
	output  *output
	heard   int           // how much of the output WaitFor has gone through
	exited  chan struct{} // closed when the process has ended
}

// Start runs the binary with args in an empty directory, and does not wait for it
// to serve. It is killed when the test ends.
func Start(tb testing.TB, args ...string) *Process {
	tb.Helper()
	return StartIn(tb, tb.TempDir(), args...)
}

// StartIn is Start in the directory dir.
func StartIn(tb testing.TB, dir string, args ...string) *Process {
	tb.Helper()
	p := &Process{
		command: exec.CommandContext(tb.Context(), Binary(tb), args...), //nolint:gosec // the binary that Main built
		output:  &output{changed: make(chan struct{})},
		exited:  make(chan struct{}),
	}
	p.command.Dir = dir
	p.command.Stdout, p.command.Stderr = p.output, p.output
	if err := p.command.Start(); err != nil {
		tb.Fatalf("start coredns: %v", err)
	}
	go func() {
		defer close(p.exited)
		_ = p.command.Wait() // ProcessState has the code, for those who ask
	}()
	tb.Cleanup(func() {
		if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			tb.Errorf("kill coredns: %v", err)
		}
		<-p.exited
		if tb.Failed() {
			tb.Logf("coredns %s said:\n%s", strings.Join(args, " "), p.Output())
		}
	})
	return p
}

// Serve writes the Corefile to a file, starts coredns on it and waits until it
// serves. It returns the path of the file for a test that edits it.
func Serve(tb testing.TB, corefile string, args ...string) (*Process, string) {
	tb.Helper()
	file := Corefile(tb, corefile)
	p := Start(tb, append([]string{"-conf", file}, args...)...)
	p.WaitForStart(tb)
	return p, file
}

// Corefile writes text to a new file and returns its path.
func Corefile(tb testing.TB, text string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "Corefile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// Pid returns the process's id.
func (p *Process) Pid() int { return p.command.Process.Pid }

// Output returns what the process has written so far, standard output and error.
func (p *Process) Output() string {
	text, _ := p.output.read()
	return text
}

// WaitFor returns once the process has written text, after what an earlier WaitFor
// waited for. The test fails at once when the process ends without it.
func (p *Process) WaitFor(tb testing.TB, text string) {
	tb.Helper()
	timeout := time.After(patience)
	for {
		_, changed := p.output.read()
		if p.hear(text) {
			return
		}
		select {
		case <-changed:
		case <-p.exited:
			if p.hear(text) {
				return
			}
			tb.Fatalf("coredns ended with %v before it said %q:\n%s", p.command.ProcessState, text, p.Output())
		case <-timeout:
			tb.Fatalf("coredns did not say %q within %v:\n%s", text, patience, p.Output())
		}
	}
}

// hear moves past the next text in the output, if it is there.
func (p *Process) hear(text string) bool {
	at := strings.Index(p.Output()[p.heard:], text)
	if at < 0 {
		return false
	}
	p.heard += at + len(text)
	return true
}

// WaitForStart returns once the process serves.
func (p *Process) WaitForStart(tb testing.TB) {
	tb.Helper()
	p.WaitFor(tb, "+meshvm-"+Version)
}

// Signal sends the process a signal.
func (p *Process) Signal(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		tb.Fatalf("send %v to coredns: %v", signal, err)
	}
}

// Wait returns the exit code once the process has ended; -1 after a signal.
func (p *Process) Wait(tb testing.TB) int {
	tb.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		tb.Fatalf("coredns did not end within %v:\n%s", patience, p.Output())
	}
	return p.command.ProcessState.ExitCode()
}

// output collects what a process writes and tells when there is more.
type output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}
