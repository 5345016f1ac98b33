package redirect

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestRunLeavesADaemon runs a hook whose daemon keeps the hook's output open: the hook has done what it was to do.
func TestRunLeavesADaemon(t *testing.T) {
	output, err := Machine{}.run(t.Context(), "sh", "-c", "sleep 60 & echo $!")
	if err != nil {
		t.Fatalf("run: got %v, want nil", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(output)))
	if err != nil {
		t.Fatalf("Output: got %q, want the daemon's number", output)
	}
	daemon, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	// It would be gone had the hook been waited for until its output was closed.
	if err := daemon.Kill(); err != nil {
		t.Errorf("End the daemon: got %v, want it to run", err)
	}
}

// TestRunFindsPrograms has the PATH of a shell that su has started, which lacks the folders of root's programs.
func TestRunFindsPrograms(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	for _, command := range [][]string{{"chroot", "--version"}, {"sh", "-c", "exec chroot --version"}} {
		if output, err := (Machine{}).run(t.Context(), command[0], command[1:]...); err != nil {
			t.Errorf("%q: got %v, %q; want it found", command, err, output)
		}
	}
	if _, err := (Machine{}).run(t.Context(), "meshvm-nobody-has-this"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("What nobody has: got %v, want %v", err, exec.ErrNotFound)
	}
}
