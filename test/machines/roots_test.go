//go:build machines

package machines

import (
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

func TestBoot(t *testing.T) {
	for _, setup := range machine.Setups() {
		t.Run(setup.Name, func(t *testing.T) {
			m := machine.NewSite(t).Boot(setup)
			t.Log(m.Run("ls -l /etc/resolv.conf; cat /etc/resolv.conf; getent hosts www.outside.example; systemd-analyze; systemctl --version | head -1; ip -br a"))
			m.Reboot()
			m.PowerCut()
			m.Start()
			t.Log(m.Run("getent hosts www.outside.example"))
		})
	}
}
