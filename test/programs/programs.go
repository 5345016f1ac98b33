// Package programs builds and runs the real programs for tests.
package programs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshvm/meshvm/test/transcript"
)

// The programs, by the names of their folders in build.
const (
	CoreDNS  = "coredns"
	Syncer   = "meshvm-syncer"
	Operator = "meshvmctl"
)

// Version is the version that the programs of a test say they have.
const Version = "v0.0.0-test"

// patience bounds every wait. It is long because machines that run tests are slow.
const patience = 60 * time.Second

// binaries is the folder that Main built the programs into.
var binaries string

// Main builds programs as a release is built, runs the tests of m, and returns the
// exit code for os.Exit. A TestMain calls it.
func Main(m *testing.M, names ...string) int {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		fmt.Fprintln(os.Stderr, "programs:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	args := []string{"build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w -X main.version=" + Version, "-o", dir + "/"}
	for _, name := range names {
		args = append(args, "github.com/meshvm/meshvm/build/"+name)
	}
	build := exec.CommandContext(context.Background(), "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "programs: go build: %v\n%s", err, output)
		return 1
	}
	binaries = dir
	return m.Run()
}

// Binary returns the path of a program that Main built.
func Binary(tb testing.TB, name string) string {
	tb.Helper()
	if binaries == "" {
		tb.Fatal("programs.Main has not run: call it in TestMain")
	}
	return filepath.Join(binaries, name)
}

// Process is a started program.
type Process struct {
	name    string
	command *exec.Cmd
	output  *transcript.Transcript
	heard   int           // how much of the output WaitFor has gone through
	exited  chan struct{} // closed when the process has ended
}

// Start runs a program with args in an empty directory, and does not wait for it
// to serve. It is killed when the test ends.
func Start(tb testing.TB, name string, args ...string) *Process {
	tb.Helper()
	return StartIn(tb, tb.TempDir(), name, args...)
}

// StartIn is Start in the directory dir.
func StartIn(tb testing.TB, dir, name string, args ...string) *Process {
	tb.Helper()
	p := &Process{
		name:    name,
		command: exec.CommandContext(tb.Context(), Binary(tb, name), args...),
		output:  &transcript.Transcript{},
		exited:  make(chan struct{}),
	}
	p.command.Dir = dir
	p.command.Stdout, p.command.Stderr = p.output, p.output
	if err := p.command.Start(); err != nil {
		tb.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.command.Wait() // ProcessState has the code, for those who ask
	}()
	tb.Cleanup(func() {
		if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			tb.Errorf("kill %s: %v", name, err)
		}
		<-p.exited
		if tb.Failed() {
			tb.Logf("%s %s said:\n%s", name, strings.Join(args, " "), p.Output())
		}
	})
	return p
}

// Serve writes the Corefile to a file, starts coredns on it and waits until it
// serves. It returns the path of the file for a test that edits it.
func Serve(tb testing.TB, corefile string, args ...string) (*Process, string) {
	tb.Helper()
	file := Corefile(tb, corefile)
	p := Start(tb, CoreDNS, append([]string{"-conf", file}, args...)...)
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
func (p *Process) Output() string { return p.output.String() }

// WaitFor returns once the process has written text, after what an earlier WaitFor
// waited for. The test fails at once when the process ends without it.
func (p *Process) WaitFor(tb testing.TB, text string) {
	tb.Helper()
	timeout := time.After(patience)
	for {
		changed := p.output.Changed()
		if p.hear(text) {
			return
		}
		select {
		case <-changed:
		case <-p.exited:
			if p.hear(text) {
				return
			}
			tb.Fatalf("%s ended with %v before it said %q:\n%s", p.name, p.command.ProcessState, text, p.Output())
		case <-timeout:
			tb.Fatalf("%s did not say %q within %v:\n%s", p.name, text, patience, p.Output())
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

// WaitForStart returns once coredns serves.
func (p *Process) WaitForStart(tb testing.TB) {
	tb.Helper()
	p.WaitFor(tb, "+meshvm-"+Version)
}

// Signal sends the process a signal.
func (p *Process) Signal(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		tb.Fatalf("send %v to %s: %v", signal, p.name, err)
	}
}

// Stop ends the process with a signal and waits until it has ended.
func (p *Process) Stop(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	p.Signal(tb, signal)
	p.Wait(tb)
}

// Wait returns the exit code once the process has ended; -1 after a signal.
func (p *Process) Wait(tb testing.TB) int {
	tb.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		tb.Fatalf("%s did not end within %v:\n%s", p.name, patience, p.Output())
	}
	return p.command.ProcessState.ExitCode()
}
