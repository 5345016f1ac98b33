package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// server is one of the control plane's two programs: how to run it, and its
// process while it runs. The owner serializes calls.
type server struct {
	name  string
	path  string
	flags []string
	log   string // file that all its runs append to
	// isReady asks the server once; nil is yes.
	isReady func(context.Context) error
	running *process
}

// start runs the program and returns once it is ready. On failure nothing is
// left running.
func (s *server) start(ctx context.Context) error {
	if s.running != nil {
		return fmt.Errorf("start %s: it runs already (pid %d)", s.name, s.running.pid())
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	defer log.Close() // the child has its own copy
	s.running, err = startProcess(processSpec{
		name:      s.name,
		path:      s.path,
		arguments: s.flags,
		// Variables such as ETCD_NAME would be settings.
		environ:  []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()},
		output:   log,
		ifOrphan: syscall.SIGKILL,
	})
	if err != nil {
		s.running = nil
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		if !s.running.exited() {
			err = errors.Join(err, s.stop())
		}
		s.running = nil
		return err
	}
	return nil
}

// stop ends the program and returns once it is gone.
func (s *server) stop() error {
	if s.running == nil {
		return fmt.Errorf("stop %s: it does not run", s.name)
	}
	err := s.running.stop(stopGrace)
	if s.running.exited() {
		s.running = nil
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	return nil
}

// awaitReady returns when the running server is ready, and fails when it ends
// first or time runs out.
func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not within %v", startTimeout))
	defer cancel()
	again := time.NewTicker(25 * time.Millisecond)
	defer again.Stop()
	for {
		refusal := s.isReady(ctx)
		if refusal == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-s.running.done:
			return fmt.Errorf("wait for %s to be ready: it ended: %s; its log ends:\n%s",
				s.name, s.running.ended(), s.logTail(30))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to be ready: %w; its last answer: %w; its log ends:\n%s",
				s.name, context.Cause(ctx), refusal, s.logTail(30))
		}
	}
}

// logTail returns the last lines of the server's log, or why it cannot be read.
func (s *server) logTail(lines int) string {
	const most = 64 << 10
	log, err := os.Open(s.log)
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	if size, err := log.Seek(0, io.SeekEnd); err != nil {
		return err.Error()
	} else if _, err := log.Seek(max(0, size-most), io.SeekStart); err != nil {
		return err.Error()
	}
	content, err := io.ReadAll(io.LimitReader(log, most))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
