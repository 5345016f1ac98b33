package service_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshvm/meshvm/test/programs"
	"github.com/meshvm/meshvm/test/transcript"
)

func TestMain(m *testing.M) { os.Exit(programs.Main(m, programs.CoreDNS)) }

const patience = 60 * time.Second

// serviceManager is as much of a service manager as a service sees: a socket that it is told by, a store of file descriptors, and
// processes that it starts with what is in the store. The real one is in the tests of whole machines; this one fails when asked to.
type serviceManager struct {
	t      *testing.T
	socket *net.UnixConn
	path   string

	mu    sync.Mutex
	said  []string
	store []*os.File // each named as it was stored
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &serviceManager{t: t, socket: socket, path: path}
	var running sync.WaitGroup
	running.Go(m.hear)
	t.Cleanup(func() {
		if err := socket.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
		for _, file := range m.store {
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return m
}

// hear takes in what services say until the socket is closed.
func (m *serviceManager) hear() {
	message, rights := make([]byte, 4096), make([]byte, 4096)
	for {
		n, rightsLength, _, _, err := m.socket.ReadMsgUnix(message, rights)
		if err != nil {
			return
		}
		m.take(string(message[:n]), rights[:rightsLength])
	}
}

func (m *serviceManager) take(message string, rights []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := strings.Split(message, "\n")
	m.said = append(m.said, lines...)
	var name string
	for _, line := range lines {
		if value, is := strings.CutPrefix(line, "FDNAME="); is {
			name = value
		}
	}
	if slices.Contains(lines, "FDSTOREREMOVE=1") {
		m.store = slices.DeleteFunc(m.store, func(file *os.File) bool { return file.Name() == name && file.Close() == nil })
	}
	if len(rights) == 0 {
		return
	}
	control, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		m.t.Error(err)
		return
	}
	for _, c := range control {
		fds, err := syscall.ParseUnixRights(&c)
		if err != nil {
			m.t.Error(err)
			return
		}
		for _, fd := range fds {
			m.store = append(m.store, os.NewFile(uintptr(fd), name))
		}
	}
}

// stored are the addresses of the sockets in the store, sorted.
func (m *serviceManager) stored() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	addresses := []string{}
	for _, file := range m.store {
		if packets, err := net.FilePacketConn(file); err == nil {
			addresses = append(addresses, "udp "+packets.LocalAddr().String())
			_ = packets.Close()
		} else if listener, err := net.FileListener(file); err == nil {
			addresses = append(addresses, "tcp "+listener.Addr().String())
			_ = listener.Close()
		}
	}
	slices.Sort(addresses)
	return addresses
}

// heard reports whether a line was said.
func (m *serviceManager) heard(line string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.said, func(said string) bool { return strings.HasPrefix(said, line) })
}

// forget forgets what was said so far.
func (m *serviceManager) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = nil
}

// process is a service that was started.
type process struct {
	t       *testing.T
	command *exec.Cmd
	output  *transcript.Transcript
	exited  chan struct{}
}

// start starts CoreDNS on a Corefile with what is in the store, as systemd does. It is killed when the test ends.
func (m *serviceManager) start(corefile string, environment ...string) *process {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	// The variable has to hold the process's own id, which only itself knows in time.
	p := &process{t: m.t, output: &transcript.Transcript{}, exited: make(chan struct{})}
	p.command = exec.CommandContext(m.t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, programs.Binary(m.t, programs.CoreDNS), "-conf", corefile)
	var names []string
	for _, file := range m.store {
		p.command.ExtraFiles = append(p.command.ExtraFiles, file)
		names = append(names, file.Name())
	}
	p.command.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	p.command.Env = append(p.command.Env, environment...)
	p.command.Stdout, p.command.Stderr = p.output, p.output
	if err := p.command.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.command.Wait() // ProcessState has the code
	}()
	m.t.Cleanup(func() {
		_ = p.command.Process.Kill() // it may have ended
		<-p.exited
		if m.t.Failed() {
			m.t.Logf("coredns said:\n%s", p.output)
		}
	})
	return p
}

// stop ends the process as systemctl stop does.
func (p *process) stop() {
	p.t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatal("coredns did not end")
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("exit code: got %d, want 0", code)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
