package join

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Units of the package.
const (
	serviceUnit  = "meshvm.service"
	redirectUnit = "meshvm-redirect.service"
	recoverUnit  = "meshvm-redirect-recover.service"
)

const groupName = "meshvm"

// Machine is the VM. The zero Machine is the one that this process runs on.
type Machine struct {
	// Root is a folder with a VM's file system, of which nothing runs: an image. Empty: this machine.
	Root string
	// Run runs a command and returns what it printed. Nil: it is executed.
	Run func(ctx context.Context, name string, arguments ...string) ([]byte, error)

	// runs says that the file system in Root is of a machine that runs, for tests.
	runs bool
}

// isImage reports whether nothing runs.
func (m Machine) isImage() bool { return m.Root != "" && !m.runs }

func (m Machine) path(path string) string { return filepath.Join("/", m.Root, path) }

func (m Machine) run(ctx context.Context, name string, arguments ...string) ([]byte, error) {
	if m.Run != nil {
		return m.Run(ctx, name, arguments...)
	}
	command := exec.CommandContext(ctx, name, arguments...) // #nosec G204 -- names and arguments are this package's own
	command.WaitDelay = time.Second
	return command.CombinedOutput()
}

// systemctl runs it, and says what it said when it fails.
func (m Machine) systemctl(ctx context.Context, arguments ...string) error {
	if m.isImage() {
		arguments = append([]string{"--root=" + m.Root}, arguments...)
	}
	said, err := m.run(ctx, "systemctl", arguments...)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("systemctl %s: %w%s", strings.Join(arguments, " "), err, indent(said))
	}
	return nil
}

// is asks systemctl a question that it answers by its exit code.
func (m Machine) is(ctx context.Context, question, unit string) bool {
	return m.systemctl(ctx, question, "--quiet", unit) == nil
}

// indent puts what a program said below the line that says so.
func indent(said []byte) string {
	text := strings.TrimSpace(string(said))
	if text == "" {
		return ""
	}
	return "\n  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// group is the number of CoreDNS's group on the machine.
func (m Machine) group() (int, error) {
	file, err := os.Open(m.path("/etc/group"))
	if err != nil {
		return 0, fmt.Errorf("look for the group %s: %w", groupName, err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 3 || fields[0] != groupName {
			continue
		}
		number, err := strconv.Atoi(fields[2])
		if err != nil || number < 0 {
			return 0, fmt.Errorf("look for the group %s: %s says its number is %q", groupName, file.Name(), fields[2])
		}
		return number, nil
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("look for the group %s: %w", groupName, err)
	}
	return 0, fmt.Errorf("there is no group %s: install the package of meshvm first", groupName)
}

// CheckPackage reports what of the package is not on the machine.
func (m Machine) CheckPackage() error {
	for _, file := range []string{"/usr/bin/coredns-meshvm", "/usr/lib/systemd/system/" + serviceUnit, "/usr/lib/systemd/system/" + redirectUnit} {
		if _, err := os.Stat(m.path(file)); err != nil {
			return fmt.Errorf("%w: install the package of meshvm first", err)
		}
	}
	if _, err := os.Stat(m.path("/run/systemd/system")); !m.isImage() && err != nil {
		return errors.New("systemd does not run here: want it, or --root for the folder of an image")
	}
	_, err := m.group()
	return err
}
