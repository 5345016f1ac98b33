package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// inSandbox marks a process that Sandbox has put into namespaces.
const inSandbox = "MESHVM_MACHINES_SANDBOX"

// Sandbox runs this program again in mount and process namespaces of its own, and then does not return: whatever it mounts or
// starts there is gone with it. In that second run it returns.
func Sandbox() error {
	if os.Getenv(inSandbox) != "" {
		return furnish()
	}
	if os.Geteuid() != 0 {
		return errors.New("machines are booted by root only")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return fmt.Errorf("%w: run test/machines/install.sh", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// A shell is the first process there, since that one has to reap orphans.
	args := []string{unshare, "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
		"/bin/sh", "-c", `"$@"; exit $?`, "sh", self}
	return syscall.Exec(unshare, append(args, os.Args[1:]...), append(os.Environ(), inSandbox+"=1"))
}

// furnish mounts what machines need.
func furnish() error {
	// Named network namespaces are mounts: on a file system of ours nobody else sees them.
	if err := os.MkdirAll(namespaces, 0o755); err != nil { //nolint:gosec // as ip netns makes it
		return err
	}
	if err := syscall.Mount("tmpfs", namespaces, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a file system on %s: %w", namespaces, err)
	}
	// New systemd boots in the unified hierarchy only, whatever this machine has.
	if err := syscall.Mount("cgroup2", cgroups, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount the unified hierarchy on %s: %w", cgroups, err)
	}
	return nil
}

// Repository is the folder of the repository.
func Repository() (string, error) {
	directory, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := directory; at != "/"; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
	}
	return "", fmt.Errorf("no go.mod above %s", directory)
}

// shell runs a script of this package's on this machine, and returns what it printed, also in its error.
func shell(ctx context.Context, script string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "/bin/sh", append([]string{"-euc", script, "sh"}, args...)...) // #nosec G204 -- scripts are this package's own
	output, err := command.CombinedOutput()
	if err != nil {
		return string(output), fmt.Errorf("%w:\n%s", err, output)
	}
	return string(output), nil
}
