package machine

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

// patience bounds every wait. It is long because machines that run tests are slow.
const patience = 30 * time.Second

// process is a program of a site. It ends with the test.
type process struct {
	name    string
	command *exec.Cmd
	output  *transcript.Transcript
	exited  chan struct{}
}

// start runs a program in a network namespace; an empty one is that of the test.
func start(tb testing.TB, name, namespace string, args ...string) *process {
	tb.Helper()
	if namespace != "" {
		args = append([]string{"nsenter", "--net=" + filepath.Join(namespaces, namespace), "--"}, args...)
	}
	p := &process{name: name, output: &transcript.Transcript{}, exited: make(chan struct{})}
	p.command = exec.CommandContext(context.Background(), args[0], args[1:]...) // #nosec G204 -- what the tests run
	p.command.Stdout, p.command.Stderr = p.output, p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.command.Start(); err != nil {
		tb.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.command.Wait() // ProcessState has the code, for those who ask
	}()
	return p
}

func (p *process) signal(tb testing.TB, signal os.Signal) {
	tb.Helper()
	if err := p.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		tb.Errorf("signal %s: %v", p.name, err)
	}
}

// stop kills the process and its children, of which dnsmasq has one for each connection, and waits for the end of all.
func (p *process) stop(tb testing.TB) {
	tb.Helper()
	if err := syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		tb.Errorf("kill %s: %v", p.name, err)
	}
	<-p.exited
	if tb.Failed() {
		tb.Logf("%s said:\n%s", p.name, tail(p.output.String(), 60))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// WaitFor waits until ask returns nil, and fails the test with what it said last.
func WaitFor(tb testing.TB, what string, ask func() error) {
	tb.Helper()
	if err := waitFor(patience, ask); err != nil {
		tb.Fatalf("wait for %s: %v", what, err)
	}
}

func waitFor(long time.Duration, ask func() error) error {
	deadline := time.NewTimer(long)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("not within %s: %w", long, err)
		case <-tick.C:
		}
	}
}

// Contains is an error unless text has part in it.
func Contains(text, part string) error {
	if strings.Contains(text, part) {
		return nil
	}
	return fmt.Errorf("got %q, want %q in it", text, part)
}
