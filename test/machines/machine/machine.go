package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// cgroups is the unified hierarchy, as the sandbox mounts it.
const cgroups = "/sys/fs/cgroup"

// rebooted is how systemd-nspawn ends when the machine wants to be started again.
const rebooted = 133

// Shared is where a machine finds the folder Machine.Shared of the host, read only.
const Shared = "/mnt"

// Machine is a booted system.
type Machine struct {
	Setup
	// Shared is a folder of the host's that the machine has at Shared.
	Shared string

	tb     testing.TB
	site   *Site
	name   string
	root   string // where its file system is mounted
	cgroup string
	nspawn *process
	leader int // its first process, as the host counts
}

// Boot starts a machine of a setup, and returns once systemd says that it runs. It is stopped when the test ends.
func (s *Site) Boot(setup Setup) *Machine {
	s.tb.Helper()
	m := &Machine{Setup: setup, tb: s.tb, site: s, name: s.inside, root: filepath.Join(s.folder, "root"), Shared: filepath.Join(s.folder, "shared")}
	m.cgroup = filepath.Join(cgroups, fmt.Sprintf("meshvm-machines-%d-%s", os.Getpid(), m.name))
	m.mount()
	check(s.tb, os.Mkdir(m.Shared, 0o755)) //nolint:gosec // users of the machine read it
	m.putProbes()
	s.tb.Cleanup(m.end)
	m.Start()
	return m
}

// mount puts the layers of the root, and what the machine writes on top of them, in one place.
func (m *Machine) mount() {
	m.tb.Helper()
	root, err := rootOf(m.Setup)
	check(m.tb, err)
	upper, work := filepath.Join(m.site.folder, "upper"), filepath.Join(m.site.folder, "work")
	for _, folder := range []string{upper, work, m.root} {
		check(m.tb, os.Mkdir(folder, 0o755)) //nolint:gosec // it becomes the / of a machine
	}
	// Volatile: what the machine syncs need not wait for the disk, which outlives the test anyway.
	options := fmt.Sprintf("volatile,lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(root.layers, ":"), upper, work)
	check(m.tb, syscall.Mount("overlay", m.root, "overlay", 0, options))
	if m.Bound {
		content, err := os.ReadFile(filepath.Join(m.root, "etc/resolv.conf"))
		check(m.tb, err)
		check(m.tb, os.WriteFile(m.bound(), content, 0o644)) //nolint:gosec // resolv.conf is for everybody
	}
}

func (m *Machine) bound() string { return filepath.Join(m.site.folder, "resolv.conf") }

// Start boots a machine that is off, and returns once it resolves names of the world.
func (m *Machine) Start() {
	m.tb.Helper()
	m.spawn()
	m.waitUntilRunning()
	WaitFor(m.tb, m.Name+" to resolve "+Outside, func() error {
		output, err := m.Try("getent ahosts " + Outside)
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return Contains(output, OutsideAddress)
	})
}

// spawn starts systemd-nspawn in a cgroup of its own, or machines would share one.
func (m *Machine) spawn() {
	m.tb.Helper()
	if m.nspawn != nil {
		m.site.unplug()
	}
	m.site.plugIn()
	check(m.tb, os.MkdirAll(m.cgroup, 0o755)) //nolint:gosec // a cgroup
	args := []string{"/bin/sh", "-euc", `echo $$ >"$0/cgroup.procs"; exec "$@"`, m.cgroup,
		"systemd-nspawn", "--quiet", "--directory=" + m.root, "--machine=" + m.name, "--register=no", "--keep-unit",
		"--network-namespace-path=" + filepath.Join(namespaces, m.site.inside), "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--bind-ro=" + m.Shared + ":" + Shared}
	if m.Bound {
		args = append(args, "--bind="+m.bound()+":/etc/resolv.conf")
	}
	m.nspawn = start(m.tb, m.name, "", append(args, "--boot")...)
	m.leader = 0
	WaitFor(m.tb, m.name+" to have a first process", func() error {
		var err error
		if exited(m.nspawn) {
			m.tb.Fatalf("systemd-nspawn ended: %s", m.nspawn.output)
		}
		m.leader, err = m.findLeader()
		return err
	})
}

func exited(p *process) bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// findLeader finds the child of systemd-nspawn that is the first process of the machine.
func (m *Machine) findLeader() (int, error) {
	pid := m.nspawn.command.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	for child := range strings.FieldsSeq(string(children)) {
		status, err := os.ReadFile(filepath.Join("/proc", child, "status"))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "NSpid:" && fields[len(fields)-1] == "1" {
				return strconv.Atoi(child)
			}
		}
	}
	return 0, errors.New("there is none")
}

func (m *Machine) waitUntilRunning() {
	m.tb.Helper()
	WaitFor(m.tb, m.name+" ("+m.Name+") to run", func() error {
		if exited(m.nspawn) {
			m.tb.Fatalf("systemd-nspawn ended: %s", m.nspawn.output)
		}
		output, err := m.Try("systemctl is-system-running")
		switch strings.TrimSpace(output) {
		case "running":
			return nil
		case "degraded":
			failed, _ := m.Try("systemctl --failed --no-legend --plain; systemctl --failed --no-legend --plain -q | while read unit rest; do journalctl -u $unit --no-pager -n 20; done")
			m.tb.Fatalf("%s (%s) has failed units:\n%s", m.name, m.Name, failed)
		}
		return fmt.Errorf("%w: %s", err, output)
	})
}

// Run runs a shell script in the machine as root, and returns what it wrote. The test fails if it does.
func (m *Machine) Run(script string) string {
	m.tb.Helper()
	output, err := m.Try(script)
	if err != nil {
		m.tb.Fatalf("%s: %s: %v:\n%s", m.Name, script, err, output)
	}
	return output
}

// Try is Run of what may fail.
func (m *Machine) Try(script string) (string, error) {
	command := exec.CommandContext(context.Background(), "nsenter", "--target", strconv.Itoa(m.leader), "--all", "--", // #nosec G204 -- what the tests run
		"/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"/bin/sh", "-euc", script)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	return output.String(), err
}

// Reboot reboots the machine, and returns once it runs again.
func (m *Machine) Reboot() {
	m.tb.Helper()
	m.turnOff("reboot")
	if code := m.nspawn.command.ProcessState.ExitCode(); code != rebooted {
		m.tb.Fatalf("%s: reboot: systemd-nspawn ended with code %d, want %d:\n%s", m.Name, code, rebooted, m.nspawn.output)
	}
	m.Start()
}

// PowerOff shuts the machine down.
func (m *Machine) PowerOff() {
	m.tb.Helper()
	m.turnOff("poweroff")
}

func (m *Machine) turnOff(how string) {
	m.tb.Helper()
	output, err := m.Try("systemctl --no-block " + how)
	if err != nil {
		m.tb.Fatalf("%s: %s: %v:\n%s", m.Name, how, err, output)
	}
	WaitFor(m.tb, m.Name+" to be off", func() error {
		if !exited(m.nspawn) {
			return errors.New(tail(m.nspawn.output.String(), 5))
		}
		return nil
	})
}

// PowerCut stops the machine as a power cut does: nothing in it is told. What it wrote to files is there.
func (m *Machine) PowerCut() {
	m.tb.Helper()
	check(m.tb, syscall.Kill(m.leader, syscall.SIGKILL))
	<-m.nspawn.exited
}

// Journal is what the units of the machine have logged since it booted.
func (m *Machine) Journal(units ...string) string {
	command := []string{"journalctl --no-pager --boot --output=short-precise --lines=400"}
	for _, unit := range units {
		command = append(command, "--unit="+unit)
	}
	output, err := m.Try(strings.Join(command, " "))
	if err != nil {
		return fmt.Sprintf("%v:\n%s", err, output)
	}
	return output
}

// end stops the machine, and says what it logged if the test has failed.
func (m *Machine) end() {
	if m.tb.Failed() && m.nspawn != nil && !exited(m.nspawn) {
		m.tb.Logf("%s: journal:\n%s", m.Name, m.Journal())
	}
	if m.nspawn != nil && !exited(m.nspawn) {
		if m.leader > 0 {
			_ = syscall.Kill(m.leader, syscall.SIGKILL) // it may have ended by itself
		}
		m.nspawn.stop(m.tb)
	}
	if m.nspawn != nil {
		m.site.unplug()
	}
	if err := syscall.Unmount(m.root, syscall.MNT_DETACH); err != nil {
		m.tb.Errorf("unmount the root of %s: %v", m.name, err)
	}
	if err := removeCgroup(m.cgroup); err != nil {
		m.tb.Errorf("remove the cgroup of %s: %v", m.name, err)
	}
}

// removeCgroup removes a cgroup in which nothing runs, and those below it.
func removeCgroup(path string) error {
	var folders []string
	err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i := len(folders) - 1; i >= 0 && err == nil; i-- {
		err = waitFor(patience, func() error { return os.Remove(folders[i]) })
	}
	return err
}
