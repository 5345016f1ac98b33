package redirect

import (
	"testing"
	"time"
)

// another is a machine on which nobody but resolv.conf resolves.
var another = Facts{NSS: []string{"files", "resolve", "dns"}}

func TestWatchStaysWithAnOwnerThatIsStartedAnew(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.facts = another
		k.hosts = []string{"pay.example.com", "more.example.com"}
		k.pass(20 * time.Second)
		k.want("While systemd-resolved does not run")
		k.facts = splitFacts
		k.pass(10 * time.Second)
		k.want("When it runs again", "25s apply cluster.local,pay.example.com,more.example.com")
		k.facts = another
		k.pass(50 * time.Second)
		k.want("A second time it has a minute, too")
	})
}

func TestWatchDefendsByTheModeInForce(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.facts, k.missing = another, []string{"the file is not there as it was written"}
		k.pass(2 * time.Second)
		k.want("Overwritten while systemd-resolved does not run", "1s apply cluster.local,pay.example.com")
		if got := k.applied.Plan.Mode; got != Resolved {
			t.Errorf("Mode: got %s, want %s", got, Resolved)
		}
	})
}
