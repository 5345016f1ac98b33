//go:build machines

package machines

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// virtual is the setup of machines with a kernel of their own.
func virtual() machine.Setup { return machine.Setups()[0] }

// powered is a machine with a kernel of its own that has joined the mesh.
type powered struct {
	*machine.Virtual
	t    *testing.T
	site *machine.Site
}

// TestVirtual shows what only a kernel of its own can: the order of a boot, limits of memory, and what a power cut leaves of files.
func TestVirtual(t *testing.T) {
	site := machine.NewSite(t)
	files := t.TempDir()
	site.Bundle(filepath.Join(files, "bundle"))
	for _, version := range []string{machine.Current, machine.Newer} {
		if err := os.Symlink(machine.PackageFile(t, version, "deb"), filepath.Join(files, version+".deb")); err != nil {
			t.Fatal(err)
		}
	}
	v := powered{Virtual: site.BootVirtual(virtual(), files), t: t, site: site}
	v.install("current")
	v.Run("meshvmctl join " + machine.Shared + "/bundle")
	v.meshNames()

	t.Run("order of a boot", v.order)
	t.Run("limits", v.limits)
	t.Run("power cut while the syncer is away", v.alone)
	t.Run("power cut in apply and revert", v.inApply)
	t.Run("power cut in an upgrade", v.inUpgrade)
}

// on has failures told to a part of the test.
func (v powered) on(t *testing.T) powered {
	v.t = t
	return v
}

func (v powered) install(version string) {
	v.t.Helper()
	v.Run("apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 install " + machine.Shared + "/" + version + ".deb")
}

// names are those of lookups, as one script.
func names(service, outside string) string {
	return `answer() { getent ahostsv4 "$1" | cut -d" " -f1 | sort -u; }
[ "$(answer ` + machine.Service + `)" = "` + service + `" ] && [ "$(answer ` + machine.Outside + `)" = "` + outside + `" ]`
}

// meshNames waits until the machine knows names of the mesh and of the world.
func (v powered) meshNames() {
	v.t.Helper()
	v.WaitFor("names of the mesh and of the world", names(machine.ServiceAddress, machine.OutsideAddress))
}

// order: who comes after whom, by the clock of the machine that boots.
func (v powered) order(t *testing.T) {
	v = v.on(t)
	v.Reboot()
	v.meshNames()
	moments := []struct{ what, unit, property string }{
		{"a redirect that a power cut left is taken back", "meshvm-redirect-recover.service", "ExecMainExitTimestampMonotonic"},
		{"the network is set up", "networking.service", "ExecMainStartTimestampMonotonic"},
		{"CoreDNS is started", "meshvm.service", "ExecMainStartTimestampMonotonic"},
		{"CoreDNS can answer", "meshvm.service", "ActiveEnterTimestampMonotonic"},
		{"the redirect is begun", "meshvm-redirect.service", "ExecMainStartTimestampMonotonic"},
		{"the redirect is in force", "meshvm-redirect.service", "ActiveEnterTimestampMonotonic"},
	}
	before := 0
	for _, moment := range moments {
		printed := strings.TrimSpace(v.Run("systemctl show --value --property=" + moment.property + " " + moment.unit))
		at, err := strconv.Atoi(printed)
		if err != nil || at < before {
			t.Errorf("%s: got %q us after the start (%v), want more than %d", moment.what, printed, err, before)
		}
		t.Logf("%8.3f s %s", float64(at)/1e6, moment.what)
		before = at
	}
}

// limits: those of the unit are in force, and a CoreDNS that is killed for its memory does not take name resolution with it.
func (v powered) limits(t *testing.T) {
	v = v.on(t)
	const group = "/sys/fs/cgroup/system.slice/meshvm.service/"
	for file, want := range map[string]string{"memory.max": "1073741824", "memory.high": "805306368", "pids.max": "256"} {
		if got := strings.TrimSpace(v.Run("cat " + group + file)); got != want {
			t.Errorf("%s: got %s, want %s", file, got, want)
		}
	}
	t.Logf("CoreDNS takes %s bytes", strings.TrimSpace(v.Run("cat "+group+"memory.current")))
	v.Run("systemctl set-property --runtime meshvm.service MemoryHigh=infinity MemoryMax=6M MemorySwapMax=0")
	v.WaitFor("CoreDNS to be killed for its memory", "journalctl --boot --unit=meshvm.service | grep -q oom-kill")
	v.WaitFor("the machine's own resolution", "meshvmctl redirect status | grep -q withdrawn; "+names("", machine.OutsideAddress))
	v.Run("systemctl set-property --runtime meshvm.service MemoryHigh=768M MemoryMax=1G")
	v.meshNames()
	v.WaitFor("the redirect", "meshvmctl redirect status | grep -q 'in force'")
}

// alone: the machine boots where no syncer answers, after a power cut. What it knew is on its disk.
func (v powered) alone(t *testing.T) {
	v = v.on(t)
	v.PowerCut()
	resume := v.site.StopSyncer()
	v.Start()
	v.meshNames()
	if status, err := v.Try("meshvmctl status"); err == nil {
		t.Errorf("meshvmctl status without a syncer: got success\n%s\nwant an exit code for a check", status)
	}
	resume()
	v.WaitFor("the syncer", "meshvmctl status")
}

// inApply: the power goes while name resolution is taken over and given back, again and again. Whatever was written, a machine that boots
// resolves.
func (v powered) inApply(t *testing.T) {
	v = v.on(t)
	for _, turns := range []string{"3", "6"} {
		v.Run("systemctl stop meshvm-redirect.service")
		v.Run("rm -f /run/turns; nohup sh -c 'while :; do meshvmctl redirect apply; echo >>/run/turns; meshvmctl redirect revert; done' >/run/turning 2>&1 &")
		v.WaitFor("turns", "[ $(wc -l </run/turns) -ge "+turns+" ]")
		v.PowerCut()
		v.Start()
		v.meshNames()
	}
	v.Run("meshvmctl redirect revert")
	v.WaitFor("the machine's own resolution", names("", machine.OutsideAddress))
	v.Run("systemctl restart meshvm-redirect.service")
	v.meshNames()
}

// inUpgrade: the power goes while the package is upgraded. The machine resolves, and the upgrade can be done again.
func (v powered) inUpgrade(t *testing.T) {
	v = v.on(t)
	v.Run("nohup apt-get -q -y -o Dpkg::Use-Pty=0 install " + machine.Shared + "/newer.deb >/run/upgrade 2>&1 &")
	v.WaitFor("dpkg to unpack", "grep -q '^Unpacking meshvm' /run/upgrade || grep -q 'status half-installed meshvm' /var/log/dpkg.log")
	v.PowerCut()
	v.Start()
	v.WaitFor("names of the world", `getent ahostsv4 `+machine.Outside+` | grep -q "`+machine.OutsideAddress+`"`)
	t.Logf("dpkg: %s", v.Run("dpkg-query -W -f '${Version} ${db:Status-Abbrev}' meshvm"))
	v.Run("dpkg --configure -a")
	v.install("newer")
	v.meshNames()
	if version := v.Run("dpkg-query -W -f '${Version} ${db:Status-Abbrev}' meshvm"); !strings.HasPrefix(version, "1.0.1") || !strings.Contains(version, "ii") {
		t.Errorf("dpkg: got %s, want 1.0.1, installed", version)
	}
}
