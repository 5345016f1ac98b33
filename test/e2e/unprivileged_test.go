//go:build linux

package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// asRoot runs the tests once more, as the root of a user namespace, where they may make networks, and
// returns their exit code. It does nothing for root, nor where the kernel does not let others be that: there
// only the tests that need a network of their own fail, and say why.
func asRoot() (code int, done bool) {
	if os.Geteuid() == 0 {
		return 0, false
	}
	again := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	// It ends when this thread does.
	runtime.LockOSThread()
	again.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGKILL,
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if err := again.Start(); err != nil {
		return 0, false
	}
	if err := again.Wait(); err != nil {
		if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.Exited() {
			return failed.ExitCode(), true
		}
		return 1, true
	}
	return 0, true
}
