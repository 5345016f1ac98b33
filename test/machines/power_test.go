//go:build machines

package machines

import (
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// virtual is the setup of machines with a kernel of their own.
func virtual() machine.Setup { return machine.Setups()[0] }

func TestVirtual(t *testing.T) {
	v := machine.NewSite(t).BootVirtual(virtual(), t.TempDir())
	t.Log(v.Run("systemd-analyze; cat /etc/resolv.conf; uname -a; cat /sys/fs/cgroup/cgroup.controllers; nft list ruleset; systemctl --failed"))
	v.PowerCut()
	v.Start()
	v.Reboot()
}
