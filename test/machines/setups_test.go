//go:build machines

package machines

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// inNamespace is a name that only the search list of a namespace makes whole.
const inNamespace = "reviews"

// What each name is, without us and with us.
var (
	without = map[string]string{
		machine.Service: "-", machine.Entry: machine.EntryOutside, machine.Outside: machine.OutsideAddress, machine.Short: machine.ShortAddress,
		inNamespace: "-",
	}
	with = map[string]string{
		machine.Service: machine.ServiceAddress, machine.Entry: machine.EntryAddress, machine.Outside: machine.OutsideAddress, machine.Short: machine.ShortAddress,
		inNamespace: machine.ServiceAddress,
	}
	asked = []string{machine.Service, machine.Entry, machine.Outside, machine.Short, inNamespace}
)

// visit is a machine on its way through a test, and the table of what it said.
type visit struct {
	*machine.Machine
	t     *testing.T
	site  *machine.Site
	table strings.Builder
}

// moment waits until every resolver says what is wanted, and writes it into the table.
func (v *visit) moment(name string, want map[string]string) {
	v.t.Helper()
	var answers machine.Answers
	machine.WaitFor(v.t, v.Setup.Name+": "+name, func() error {
		answers = v.Resolve(asked...)
		if difference := answers.Differ(want); difference != "" {
			return errors.New(difference)
		}
		return nil
	})
	for _, resolver := range []string{machine.Glibc, machine.Go, machine.Musl} {
		row := []string{v.Setup.Name, name, resolver}
		for _, name := range asked {
			row = append(row, answers[resolver][name])
		}
		fmt.Fprintf(&v.table, "| %s |\n", strings.Join(row, " | "))
	}
}

// TestSetups takes a machine of each setup from before the package to after its purge.
func TestSetups(t *testing.T) {
	for _, setup := range machine.Setups() {
		t.Run(setup.Name, func(t *testing.T) {
			t.Parallel()
			site := machine.NewSite(t)
			v := &visit{t: t, Machine: site.Boot(setup), site: site}
			defer func() {
				t.Logf("%s: %s\n| setup | moment | asked by | %s |\n%s", setup.Name, setup.Says, strings.Join(asked, " | "), v.table.String())
			}()
			v.lifetime()
		})
	}
}

func (v *visit) lifetime() {
	v.t.Helper()
	v.moment("before", without)
	v.PowerOff()
	files := v.Snapshot()
	v.Start()
	state := v.Run("cat /etc/resolv.conf")

	began := time.Now()
	v.Install(machine.Current)
	installed := time.Since(began)
	v.moment("installed, nothing started", without)
	began = time.Now()
	v.t.Logf("%s: meshvmctl join says:\n%s", v.Setup.Name, v.Join())
	v.Run("getent hosts " + machine.Service)
	v.t.Logf("%s: apt took %.1f s, meshvmctl join up to the first answer of the mesh %.1f s", v.Setup.Name, installed.Seconds(), time.Since(began).Seconds())
	v.moment("after apply", with)
	v.Reboot()
	v.moment("after reboot", with)
	v.trample(state)
	v.Run("systemctl stop meshvm.service")
	v.moment("meshvm stopped", without)
	v.Run("systemctl start meshvm.service")
	v.moment("meshvm started", with)
	v.killed()
	v.PowerCut()
	v.Start()
	v.moment("after a power cut", with)
	applied := v.since()
	v.Install(machine.Newer)
	v.moment("after upgrade", with)
	if since := v.since(); since != applied {
		v.t.Errorf("The redirect was applied anew by an upgrade: got %s, want %s", since, applied)
	}

	v.Run("meshvmctl redirect revert")
	v.moment("after revert", without)
	if after := v.Run("cat /etc/resolv.conf"); after != state {
		v.t.Errorf("resolv.conf after revert: got\n%s\nwant\n%s", after, state)
	}
	v.Run("meshvmctl redirect apply")
	v.moment("applied again", with)
	v.Run("apt-get -q -y -o Dpkg::Use-Pty=0 remove meshvm")
	v.moment("removed", without)
	v.Run("apt-get -q -y -o Dpkg::Use-Pty=0 purge meshvm")
	v.moment("purged", without)
	if after := v.Run("cat /etc/resolv.conf"); after != state {
		v.t.Errorf("resolv.conf after purge: got\n%s\nwant\n%s", after, state)
	}
	v.PowerOff()
	if difference := files.Difference(v.Snapshot()); difference != "" {
		v.t.Errorf("files that the package has left behind, changed or taken:\n%s", difference)
	}
	v.Start()
	v.moment("purged, after reboot", without)
}

// since is when the redirect was applied by its unit.
func (v *visit) since() string {
	v.t.Helper()
	return v.Run("systemctl show --property=ActiveEnterTimestampMonotonic meshvm-redirect.service")
}

// killed kills CoreDNS again and again. systemd starts it again, and the redirect stays.
func (v *visit) killed() {
	v.t.Helper()
	applied := v.since()
	for range 5 {
		v.Run(`pid=$(systemctl show --property=MainPID --value meshvm.service); [ "$pid" = 0 ] || kill -KILL "$pid"`)
		machine.WaitFor(v.t, v.Setup.Name+": another CoreDNS", func() error {
			output, err := v.Try("systemctl is-active meshvm.service")
			if err != nil {
				return fmt.Errorf("%w: %s", err, output)
			}
			return nil
		})
	}
	v.moment("after 5 x kill -9", with)
	if since := v.since(); since != applied {
		v.t.Errorf("The redirect was applied anew by 5 x kill -9: got %s, want %s", since, applied)
	}
}

// trample has others write resolv.conf, as another network's or as it was before us, and sees it healed. Where systemd-resolved has the
// mesh's names, the file does not matter.
func (v *visit) trample(before string) {
	v.t.Helper()
	v.write("search " + machine.Domain + "\nnameserver " + machine.Resolver + "\n")
	v.moment("resolv.conf written over", with)
	v.write(before)
	v.moment("resolv.conf written as it was", with)
	v.Run("rm -f /etc/resolv.conf.bak") // openresolv keeps what others have written
}

func (v *visit) write(resolvConf string) {
	v.t.Helper()
	v.Run("cat >/etc/resolv.conf <<'END'\n" + strings.TrimSuffix(resolvConf, "\n") + "\nEND\n")
}
