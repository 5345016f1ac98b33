//go:build machines

package machines

import (
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// TestSnapshots: what the comparison leaves out is enough for a machine that nobody changes, and a file that is left behind is seen.
func TestSnapshots(t *testing.T) {
	for _, setup := range machine.Setups() {
		t.Run(setup.Name, func(t *testing.T) {
			t.Parallel()
			m := machine.NewSite(t).Boot(setup)
			m.PowerOff()
			before := m.Snapshot()
			m.Start()
			m.Reboot()
			m.PowerOff()
			if difference := before.Difference(m.Snapshot()); difference != "" {
				t.Errorf("files that differ after a reboot:\n%s", difference)
			}
			m.Start()
			m.Run("touch /etc/left; chmod 600 /etc/hosts; mv /etc/hostname /etc/name")
			m.PowerOff()
			for _, path := range []string{"+ etc/left:", "! etc/hosts:", "- etc/hostname:", "+ etc/name:"} {
				if err := machine.Contains(before.Difference(m.Snapshot()), path); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
