package controlplane

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestServersDieWithTheirParent(t *testing.T) {
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), orphanVariable+"="+t.TempDir())
	parent.Stderr = os.Stderr
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("the parent's output: %v", err)
	}
	var pids [2]int
	if _, err := fmt.Sscan(line, &pids[0], &pids[1]); err != nil {
		t.Fatalf("the parent printed %q: %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended with status 0, want killed")
	}
	for _, pid := range pids {
		eventually(t, "the servers die with their parent", func() error {
			if running(pid) {
				return fmt.Errorf("process %d lives", pid)
			}
			return nil
		})
	}
}

// running reports whether a process lives. Unlike a child's own zombie, an
// orphan's belongs to whoever adopted it, who may reap it late.
func running(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	var name string
	var state rune
	if _, err := fmt.Sscanf(string(status), "%d %s %c", &pid, &name, &state); err != nil {
		return false
	}
	return state != 'Z'
}
