package machine

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// slow bounds waits for a machine whose processor is emulated.
const slow = 4 * time.Minute

// Virtual is a machine with a kernel of its own, in QEMU. Its processor is emulated, since machines that run tests have none to lend,
// or a poor one: it is for what only a kernel can show, and slow.
type Virtual struct {
	Setup

	tb     testing.TB
	site   *Site
	folder string
	disk   string
	qemu   *process
	port   net.Conn
	reader *bufio.Reader
}

// BootVirtual starts a machine of a setup in QEMU, with the files of a folder at Shared.
func (s *Site) BootVirtual(setup Setup, files string) *Virtual {
	s.tb.Helper()
	v := &Virtual{Setup: setup, tb: s.tb, site: s, folder: filepath.Join(s.folder, "virtual")}
	check(s.tb, os.Mkdir(v.folder, 0o700))
	_, image, err := imagePaths(setup)
	check(s.tb, err)
	v.disk = filepath.Join(v.folder, "disk.qcow2")
	_, err = shell(s.tb.Context(), `qemu-img create -q -f qcow2 -F raw -b "$1" "$2"; tar -chf "$3" -C "$4" .`,
		filepath.Join(image, "disk"), v.disk, v.file("files.tar"), files)
	check(s.tb, err)
	s.ip("-n", s.router, "tuntap", "add", "virtual", "mode", "tap")
	s.ip("-n", s.router, "link", "set", "virtual", "master", "lan", "up")
	s.tb.Cleanup(v.end)
	v.Start()
	v.Run("tar -xf /dev/vdb -C " + Shared)
	return v
}

func (v *Virtual) file(name string) string { return filepath.Join(v.folder, name) }

// Start boots the machine, and returns once systemd says that it runs and names of the world resolve.
func (v *Virtual) Start() {
	v.tb.Helper()
	if err := os.Remove(v.file("port")); err != nil && !errors.Is(err, os.ErrNotExist) {
		v.tb.Fatal(err)
	}
	kernel, _, err := imagePaths(v.Setup)
	check(v.tb, err)
	v.qemu = start(v.tb, "qemu", v.site.router, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "2", "-m", "1024",
		"-nographic", "-nodefaults", "-no-user-config", "-serial", "stdio", "-no-reboot",
		"-kernel", filepath.Join(kernel, "kernel"), "-initrd", filepath.Join(kernel, "initramfs"),
		"-append", "console=ttyS0 root=/dev/vda rw quiet net.ifnames=0 systemd.show_status=0 mitigations=off",
		"-drive", "file="+v.disk+",format=qcow2,if=virtio,cache=unsafe", "-drive", "file="+v.file("files.tar")+",format=raw,if=virtio,readonly=on",
		"-netdev", "tap,id=lan,ifname=virtual,script=no,downscript=no", "-device", "virtio-net-pci,netdev=lan,romfile=",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=port,path="+v.file("port")+",server=on,wait=off", "-device", "virtserialport,chardev=port,name=port")
	v.wait("a shell", func() error {
		if exited(v.qemu) {
			v.tb.Fatalf("qemu ended: %s", v.qemu.output)
		}
		if v.port == nil {
			port, err := (&net.Dialer{}).DialContext(v.tb.Context(), "unix", v.file("port"))
			if err != nil {
				return err
			}
			v.port, v.reader = port, bufio.NewReader(port)
		}
		return nil
	})
	v.wait(v.Name+" to run", func() error {
		output, err := v.Try("systemctl is-system-running; getent ahosts " + Outside)
		return errors.Join(err, Contains(output, OutsideAddress))
	})
}

// wait is WaitFor on a slow machine.
func (v *Virtual) wait(what string, ask func() error) {
	v.tb.Helper()
	if err := waitFor(slow, ask); err != nil {
		v.tb.Fatalf("wait for %s: %v:\n%s", what, err, tail(v.qemu.output.String(), 30))
	}
}

// WaitFor waits until a script ends well.
func (v *Virtual) WaitFor(what, script string) {
	v.tb.Helper()
	v.wait(what, func() error {
		output, err := v.Try(script)
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	})
}

// Run runs a shell script in the machine as root, and returns what it wrote. The test fails if it does.
func (v *Virtual) Run(script string) string {
	v.tb.Helper()
	output, err := v.Try(script)
	if err != nil {
		v.tb.Fatalf("%s: %s: %v:\n%s", v.Name, script, err, output)
	}
	return output
}

// Try is Run of what may fail.
func (v *Virtual) Try(script string) (string, error) {
	check(v.tb, v.port.SetDeadline(time.Now().Add(slow)))
	if _, err := fmt.Fprintln(v.port, base64.StdEncoding.EncodeToString([]byte(script+"\n"))); err != nil {
		return "", err
	}
	answer, err := v.reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	number, encoded, _ := strings.Cut(strings.TrimSpace(answer), " ")
	code, err := strconv.Atoi(number)
	if err != nil {
		return "", fmt.Errorf("answer %q: %w", answer, err)
	}
	output, err := base64.StdEncoding.DecodeString(encoded)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return string(output), err
}

// PowerCut ends the machine as a power cut does: what it has not synced is lost.
func (v *Virtual) PowerCut() {
	v.tb.Helper()
	v.qemu.stop(v.tb)
	check(v.tb, v.port.Close())
	v.port = nil
}

// Reboot shuts the machine down and boots it again.
func (v *Virtual) Reboot() {
	v.tb.Helper()
	v.Run("systemctl --no-block reboot")
	v.wait(v.Name+" to be off", func() error {
		if !exited(v.qemu) {
			return errors.New("qemu runs")
		}
		return nil
	})
	check(v.tb, v.port.Close())
	v.port = nil
	v.Start()
}

func (v *Virtual) end() {
	if v.tb.Failed() && v.port != nil && !exited(v.qemu) {
		output, err := v.Try("journalctl --no-pager --boot --lines=300")
		v.tb.Logf("%s: journal (%v):\n%s", v.Name, err, output)
	}
	if v.qemu != nil && !exited(v.qemu) {
		v.qemu.stop(v.tb)
	}
	if v.port != nil {
		check(v.tb, v.port.Close())
	}
}
