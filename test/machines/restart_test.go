//go:build machines

package machines

import (
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// TestRestartsUnderLoad: 2,000 queries a second by a client that asks each but once, while meshvm is restarted twenty times and then
// upgraded. Not one is lost.
func TestRestartsUnderLoad(t *testing.T) {
	const restarts = 20
	m := machine.NewSite(t).Boot(named(t, "static"))
	m.Install(machine.Current)
	m.JoinByHand()
	machine.WaitFor(t, "an answer of the mesh", func() error {
		return machine.Contains(m.Dig("@127.0.0.1", "+short", machine.Service), machine.ServiceAddress)
	})
	process := func() string { return m.Run("systemctl show --property=MainPID --value meshvm.service") }
	asker := m.Asker("-rate", "2000", machine.Service+"="+machine.ServiceAddress, machine.Entry+"="+machine.EntryAddress, machine.Outside+"="+machine.OutsideAddress)
	asked := map[string]bool{process(): true}
	for range restarts {
		m.Run("systemctl restart meshvm.service; sleep 0.5") // each serves before it goes
		asked[process()] = true
	}
	if len(asked) != restarts+1 {
		t.Errorf("Processes: got %d, want %d", len(asked), restarts+1)
	}
	m.Install(machine.Newer)
	asked[process()] = true
	if len(asked) != restarts+2 {
		t.Errorf("Processes after the upgrade: got %d, want %d", len(asked), restarts+2)
	}
	report := asker.Stop()
	total := report.UDP + report.TCP
	t.Logf("%d queries in %.1f s (%.0f a second; %d by UDP, %d by TCP) during %d restarts and an upgrade: %d answered, lost: %v; the slowest took %.0f ms",
		total, report.Seconds, float64(total)/report.Seconds, report.UDP, report.TCP, restarts, report.Answered, report.Lost, report.Slowest)
	if report.Answered != total || len(report.Lost) > 0 {
		t.Errorf("Queries: got %d answered of %d, lost %v; want all", report.Answered, total, report.Lost)
	}
	if rate := float64(total) / report.Seconds; rate < 1900 {
		t.Errorf("Rate: got %.0f queries a second, want 2000", rate)
	}
}

// named is the setup of a name.
func named(t *testing.T, name string) machine.Setup {
	t.Helper()
	for _, setup := range machine.Setups() {
		if setup.Name == name {
			return setup
		}
	}
	t.Fatalf("no setup %s", name)
	return machine.Setup{}
}
