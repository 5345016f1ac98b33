package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: far beyond what anything here takes, so that a busy machine fails
// nothing, and a hang does.
const patience = 60 * time.Second

// binaries is the folder that TestMain builds the programs into.
var binaries string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "meshvm-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	build := exec.Command("go", "build", "-o", binaries, "../../build/coredns", "../../build/meshvm-syncer")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// process is a program of ours that runs.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	output *output
	done   chan struct{} // closed when it has ended
}

// output is what a process has written so far.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// start runs a program until the test ends. What it wrote is shown when the test fails.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, output: &output{}, done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(binaries, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.Dir = t.TempDir()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, p.output)
		}
	})
	return p
}

// signal sends a signal to the process and waits until it has ended.
func (p *process) signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("%s did not end on %v", p.name, signal)
	}
}

func (p *process) stop() { p.signal(syscall.SIGTERM) }
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// wrote waits until the process has written a text.
func (p *process) wrote(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s writes %q", p.name, text), func() error {
		if !strings.Contains(p.output.String(), text) {
			return errors.New("not yet")
		}
		return nil
	})
}

// eventually waits until check succeeds and says how long that took.
func eventually(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(begin)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in %v: %v", what, patience, err)
		case <-ticker.C:
		}
	}
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("find a free port: %v", err)
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			continue // somebody has it for UDP
		}
		defer udp.Close()
		return tcp.Addr().String()
	}
}

// write puts a file into a folder the way careful editors do: whole or not at all.
func write(t *testing.T, folder, name, text string) {
	t.Helper()
	temp := filepath.Join(folder, "."+name+".tmp")
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}
