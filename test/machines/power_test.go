//go:build machines

package machines

import (
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

func TestVirtual(t *testing.T) {
	setup := named(t, "dhclient")
	if err := machine.Images(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	v := machine.NewSite(t).BootVirtual(setup, t.TempDir())
	t.Log(v.Run("systemd-analyze; cat /etc/resolv.conf; uname -a; cat /sys/fs/cgroup/cgroup.controllers; nft list ruleset; systemctl --failed"))
	v.PowerCut()
	v.Start()
	v.Reboot()
}
