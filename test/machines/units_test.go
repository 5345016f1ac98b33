//go:build machines

package machines

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// worstExposure is the highest score of systemd-analyze security that the unit of CoreDNS may have.
const worstExposure = 2.0

var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// TestUnits: what systemd says of the units, without anything running.
func TestUnits(t *testing.T) {
	for _, name := range []string{"static", "delegate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := machine.NewSite(t).Boot(named(t, name))
			m.Install(machine.Current)
			units := "meshvm.service meshvm-redirect.service meshvm-redirect-watch.service meshvm-redirect-recover.service"
			if output := m.Run("systemctl is-active " + units + " || :; systemctl is-enabled " + units + " || :"); regexp.MustCompile(`(?m)^(active|enabled)$`).MatchString(output) {
				t.Errorf("Units after the installation: got\n%s\nwant none active or enabled", output)
			}
			if output := m.Run("systemd-analyze verify --man=no " + units + " 2>&1"); output != "" {
				t.Errorf("systemd-analyze verify: got\n%s\nwant nothing", output)
			}
			output := m.Run("systemd-analyze security --no-pager meshvm.service")
			t.Logf("systemd-analyze security meshvm.service:\n%s", output)
			found := exposure.FindStringSubmatch(output)
			if found == nil {
				t.Fatal("no exposure level in it")
			}
			if score, err := strconv.ParseFloat(found[1], 64); err != nil || score > worstExposure {
				t.Errorf("Exposure: got %s (%v), want at most %.1f", found[1], err, worstExposure)
			}
			t.Logf("the others:\n%s", m.Run("for unit in redirect redirect-watch redirect-recover; do systemd-analyze security --no-pager meshvm-$unit.service | tail -1; done"))
		})
	}
}
