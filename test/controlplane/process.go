package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// processSpec says what to run.
type processSpec struct {
	name      string
	path      string
	arguments []string
	environ   []string
	output    *os.File       // standard output and error
	ifOrphan  syscall.Signal // sent to the process when this one dies, on Linux
}

// process is a running child. A goroutine of its own waits for it.
type process struct {
	name    string
	command *exec.Cmd
	done    chan struct{} // closed once the child is gone and reaped
	err     error         // how it ended; valid after done
}

// startProcess starts the child in a process group of its own, so that a
// Ctrl-C at the terminal reaches the test first and not its servers.
func startProcess(spec processSpec) (*process, error) {
	command := exec.Command(spec.path, spec.arguments...)
	command.Env = spec.environ
	command.Stdout, command.Stderr = spec.output, spec.output
	command.SysProcAttr = childAttributes(spec.ifOrphan)

	p := &process{name: spec.name, command: command, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		// Linux sends the death signal when the thread that started the child
		// ends, so that thread stays with this goroutine as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			p.err = command.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", spec.name, err)
	}
	return p, nil
}

// pid is the child's process ID.
func (p *process) pid() int { return p.command.Process.Pid }

// exited reports whether the child is gone.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ended says how a child that is gone ended.
func (p *process) ended() string {
	if p.err != nil {
		return p.err.Error()
	}
	return "exit status 0"
}

// stop asks the child to end, kills it when it has not within grace, and
// returns once it is gone. It is an error when the child had ended by itself.
func (p *process) stop(grace time.Duration) error {
	if p.exited() {
		return fmt.Errorf("%s had ended by itself: %s", p.name, p.ended())
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// signal sends a signal to the child by its own ID. A child that ended in the
// meantime is no error.
func (p *process) signal(signal syscall.Signal) error {
	err := p.command.Process.Signal(signal)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s (pid %d): %w", signal, p.name, p.pid(), err)
	}
	return nil
}
