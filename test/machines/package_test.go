//go:build machines

package machines

import (
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// TestPackages: a package that is installed, configured, upgraded and removed, by dpkg and by rpm, with the service running. What was
// configured outlives the upgrade, and nothing outlives the end.
func TestPackages(t *testing.T) {
	tests := map[string]struct {
		setup   machine.Setup
		install func(m *machine.Machine, version string)
		end     string
	}{
		"deb": {named(t, "static"), (*machine.Machine).Install, "apt-get -q -y -o Dpkg::Use-Pty=0 purge meshvm"},
		"rpm": {machine.RPM(), (*machine.Machine).InstallRPM, "rpm --erase meshvm; rm -rf /etc/meshvm"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := machine.NewSite(t).Boot(test.setup)
			m.PowerOff()
			before := m.Snapshot()
			m.Start()

			test.install(m, machine.Current)
			m.JoinByHand()
			answers := func(when string) {
				t.Helper()
				machine.WaitFor(t, "an answer of the mesh "+when, func() error {
					return machine.Contains(m.Dig("@127.0.0.1", "+short", machine.Service), machine.ServiceAddress)
				})
			}
			answers("after the installation")
			m.Run("echo '# ours' >>/etc/meshvm/Corefile; echo GOMEMLIMIT=200MiB >>/etc/meshvm/meshvm.env")
			configured := m.Run("cat /etc/meshvm/Corefile /etc/meshvm/meshvm.env /etc/meshvm/token; stat -c '%A %U:%G %n' /etc/meshvm/*")
			process := m.Run("systemctl show --property=MainPID --value meshvm.service")
			version := m.Run("coredns-meshvm -version")

			test.install(m, machine.Newer)
			answers("after the upgrade")
			if after := m.Run("cat /etc/meshvm/Corefile /etc/meshvm/meshvm.env /etc/meshvm/token; stat -c '%A %U:%G %n' /etc/meshvm/*"); after != configured {
				t.Errorf("Configuration after the upgrade: got\n%s\nwant\n%s", after, configured)
			}
			if after := m.Run("systemctl show --property=MainPID --value meshvm.service"); after == process {
				t.Errorf("Process after the upgrade: got %s, want another", after)
			}
			if after := m.Run("coredns-meshvm -version"); after == version {
				t.Errorf("Version after the upgrade: got %s, want another", after)
			}

			m.Run(test.end)
			if output, err := m.Try("systemctl is-active meshvm.service; ss -Hlnu sport = :53; getent passwd meshvm"); err == nil {
				t.Errorf("After the removal: got\n%s\nwant no service, no socket and no user", output)
			}
			m.PowerOff()
			if difference := before.Difference(m.Snapshot()); difference != "" {
				t.Errorf("Files that the package has left behind, changed or taken:\n%s", difference)
			}
		})
	}
}
