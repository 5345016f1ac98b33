package redirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// keptInMemory is a resolution in memory: what may fail, does so on demand, and time is that of the test.
type keptInMemory struct {
	// turn is the test's, but for the time that it lets pass. Each look takes it first.
	turn sync.Mutex
	// applied is the State, as if on disk. missing is what others have overwritten.
	applied *State
	missing []string
	// silent: CoreDNS does not answer. tramples: others overwrite whatever is applied, at once.
	silent, tramples bool
	// lost is how many of the next questions have no answer. slow is how long a look at the machine takes.
	lost int
	slow time.Duration
	// hosts are those of the mesh.
	hosts []string
	// facts are of the machine.
	facts Facts
	// fails are the errors of each operation.
	fails map[string]error
	// did is what was changed, with the time since the start.
	did     []string
	start   time.Time
	applies []time.Time
	// looked counts looks at the machine, decided those at all of it, asked questions for hosts.
	looked, decided, asked int
	// wishes are those that were decided upon.
	wishes []Wish
}

func (k *keptInMemory) state() (*State, error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	if k.applied == nil {
		return nil, k.fails["state"]
	}
	state := *k.applied
	return &state, k.fails["state"]
}

func (k *keptInMemory) holds(context.Context, Plan) ([]string, error) {
	return k.missing, k.fails["holds"]
}

func (k *keptInMemory) answers(context.Context, Plan) bool {
	if k.lost > 0 {
		k.lost--
		return false
	}
	return !k.silent
}

func (k *keptInMemory) decide(_ context.Context, w Wish) (Plan, error) {
	k.decided++
	k.wishes = append(k.wishes, w)
	return Decide(k.facts, w)
}

func (k *keptInMemory) apply(_ context.Context, p Plan) error {
	k.applies = append(k.applies, time.Now())
	if err := k.fails["apply"]; err != nil {
		k.say("fail to apply")
		k.applied.Withdrawn = "since then: " + err.Error()
		return err
	}
	k.say("apply " + strings.Join(p.Domains, ","))
	k.applied.Plan, k.applied.Withdrawn, k.missing = p, "", nil
	if k.tramples {
		k.missing = []string{"resolv.conf is somebody else's"}
	}
	return nil
}

func (k *keptInMemory) withdraw(_ context.Context, why string) error {
	if err := k.fails["withdraw"]; err != nil {
		k.say("fail to withdraw")
		return err
	}
	k.say("withdraw: " + why)
	k.applied.Withdrawn = "since then: " + why
	return nil
}

func (k *keptInMemory) fight(_ context.Context, what string) error {
	k.say("fight: " + what)
	k.applied.Fight = what
	return k.fails["fight"]
}

func (k *keptInMemory) upstreams(context.Context, Plan) error {
	k.looked++
	time.Sleep(k.slow)
	return k.fails["upstreams"]
}

func (k *keptInMemory) say(what string) {
	k.did = append(k.did, fmt.Sprintf("%s %s", time.Since(k.start).Round(time.Second), what))
}

// keeper is a Watch in a bubble of synctest, half a second after its looks.
type keeper struct {
	*keptInMemory
	t       *testing.T
	changes chan struct{}
	logged  *bytes.Buffer
	told    *[]string
	stop    func()
}

const keeperMode = Resolved

// splitFacts are of a machine on which only the mesh's domains come to CoreDNS.
var splitFacts = Facts{NSS: []string{"files", "resolve", "dns"}, Resolved: Daemon{Running: true, Version: 252}}

func wishOf(hosts []string) Wish {
	return Wish{Server: packaged, Zones: []string{"cluster.local"}, Hosts: hosts, Mode: None, AllNames: true} // what Watch has to replace
}

// keep begins to watch what is applied.
func keep(t *testing.T, change func(*keptInMemory)) *keeper {
	t.Helper()
	plan, err := Decide(splitFacts, Wish{Server: packaged, Zones: []string{"cluster.local"}, Hosts: []string{"pay.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{
		t: t, changes: make(chan struct{}, 1), logged: &bytes.Buffer{}, told: &[]string{},
		keptInMemory: &keptInMemory{applied: &State{Applied: true, Plan: plan}, hosts: []string{"pay.example.com"}, fails: map[string]error{}, facts: splitFacts, start: time.Now()},
	}
	if change != nil {
		change(k.keptInMemory)
	}
	log := slog.New(slog.NewTextHandler(k.logged, nil))
	w := &watching{resolution: k.keptInMemory, log: log, changes: k.changes, keeping: Keeping{
		Wish: func(context.Context) (Wish, error) { k.asked++; return wishOf(k.hosts), k.fails["wish"] },
		Tell: func(state string) { *k.told = append(*k.told, state) },
		Log:  log,
	}}
	k.turn.Lock()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	k.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch: got %v, want nil", err)
		}
	}
	t.Cleanup(cancel)
	k.pass(500 * time.Millisecond)
	return k
}

// pass lets time go by.
func (k *keeper) pass(d time.Duration) {
	k.turn.Unlock()
	time.Sleep(d) // of the bubble
	synctest.Wait()
	k.turn.Lock()
}

// since is what was changed since the last call.
func (k *keeper) since() []string {
	did := k.did
	k.did = nil
	return did
}

func (k *keeper) want(what string, want ...string) {
	k.t.Helper()
	if got := k.since(); !slices.Equal(got, want) {
		k.t.Errorf("%s: did %q, want %q", what, got, want)
	}
}

// status is what the service manager shows.
func (k *keeper) status(want string) {
	k.t.Helper()
	if got := (*k.told)[len(*k.told)-1]; !strings.HasPrefix(got, "STATUS="+want) {
		k.t.Errorf("Told last: got %q, want STATUS=%s", got, want)
	}
}

// said is how often the log has a text.
func (k *keeper) said(text string, want int) {
	k.t.Helper()
	if got := strings.Count(k.logged.String(), text); got != want {
		k.t.Errorf("Log: got %q %d times, want %d:\n%s", text, got, want, k.logged)
	}
}

// watched runs a test in a bubble, in which every goroutine has to end.
func watched(t *testing.T, change func(*keptInMemory), test func(*keeper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, change)
		test(k)
		k.stop()
	})
}

func TestWatchLeavesAloneWhatHolds(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		if got := (*k.told)[0]; got != "READY=1" {
			t.Errorf("Told first: got %q, want READY=1", got)
		}
		k.pass(10 * time.Minute)
		k.want("In ten calm minutes")
		k.status("mode resolved, names of 2 domains")
		if got := len(*k.told); got != 2 {
			t.Errorf("Told: got %q, want READY=1 and one STATUS", *k.told)
		}
		if k.looked < 19 || k.looked > 23 {
			t.Errorf("Looks at the machine in ten minutes: got %d, want one each half minute", k.looked)
		}
		if k.decided > k.looked {
			t.Errorf("Plans in ten minutes: got %d, want no more than the %d looks at the machine, since the mesh is the same", k.decided, k.looked)
		}
		if k.asked < 110 || k.asked > 130 {
			t.Errorf("Questions for hosts in ten minutes: got %d, want one each five seconds", k.asked)
		}
	})
}

func TestWatchSilence(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.pass(time.Second)
		k.silent = true
		k.pass(4 * time.Second)
		k.silent = false
		k.pass(10 * time.Second)
		k.want("After four seconds of silence, as of a restart")

		k.silent = true
		k.pass(5 * time.Second)
		k.want("After five seconds of silence", "20s withdraw: CoreDNS at 127.0.0.1:53 has answered nothing for 5s")
		k.pass(time.Hour)
		k.want("After an hour more")
		k.status("withdrawn since then: CoreDNS at 127.0.0.1:53 has answered nothing for 5s")
		k.said("giving name resolution back", 1)

		k.silent = false
		k.pass(2 * time.Second)
		k.want("When it answers again", "1h0m21s apply cluster.local,pay.example.com")
		k.status("mode resolved")
		k.pass(time.Hour)
		k.want("After another hour")
	})
}

// TestWatchTakesNoStepForSilence has a look at the machine take longer than CoreDNS may be silent, and one answer lost after it.
func TestWatchTakesNoStepForSilence(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.pass(time.Second)
		k.slow, k.lost = 2*silence, 1
		k.changes <- struct{}{}
		k.pass(3 * silence)
		k.want("After one answer that was lost")
		k.slow = 0
		k.pass(2 * silence)
		k.silent = true
		k.pass(2 * silence)
		if got := k.since(); len(got) != 1 || !strings.Contains(got[0], " withdraw: ") {
			t.Errorf("After silence: did %q, want it withdrawn once", got)
		}
	})
}

func TestWatchSilentFromTheStart(t *testing.T) {
	watched(t, func(k *keptInMemory) { k.silent = true }, func(k *keeper) {
		k.pass(4 * time.Second)
		k.want("CoreDNS has five seconds to begin with")
		k.pass(2 * time.Second)
		k.want("And no more", "5s withdraw: CoreDNS at 127.0.0.1:53 has answered nothing for 5s")
	})
}

func TestWatchRetriesARevertMoreAndMoreRarely(t *testing.T) {
	watched(t, func(k *keptInMemory) { k.silent, k.fails["withdraw"] = true, errors.New("read-only file system") }, func(k *keeper) {
		k.pass(10 * time.Minute)
		if got := len(k.since()); got < 20 || got > 30 {
			t.Errorf("Tries in ten minutes: got %d, want some 25", got)
		}
		k.said("cannot give name resolution back", 1)
		delete(k.fails, "withdraw")
		k.pass(longestRetry)
		if got := k.since(); len(got) != 1 {
			t.Errorf("When it works: did %q, want it withdrawn once", got)
		}
		k.said("it works again", 1)
	})
}

func TestWatchAppliesAgainWhatIsOverwritten(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.pass(time.Second)
		k.missing = []string{"resolv.conf is somebody else's"}
		k.changes <- struct{}{}
		k.pass(300 * time.Millisecond)
		k.want("A quarter of a second after a change", "2s apply cluster.local,pay.example.com")
		k.missing = []string{"resolv.conf is somebody else's"} // and nobody tells
		k.pass(time.Second)
		k.want("At the next look", "2s apply cluster.local,pay.example.com")
		k.pass(10 * time.Minute)
		k.want("Afterwards")
		k.status("mode resolved")
	})
}

// TestWatchWaitsUntilAFileIsWritten has files that are written in pieces.
func TestWatchWaitsUntilAFileIsWritten(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		before := k.looked
		for range 4 {
			k.changes <- struct{}{}
			k.pass(100 * time.Millisecond)
		}
		if k.looked != before {
			t.Errorf("Looks at the machine while a file is being written: got %d, want 0", k.looked-before)
		}
		k.pass(settle)
		if k.looked != before+1 {
			t.Errorf("Looks at the machine after a change: got %d, want 1", k.looked-before)
		}
	})
}

func TestWatchFight(t *testing.T) {
	watched(t, func(k *keptInMemory) { k.tramples, k.missing = true, []string{"resolv.conf is somebody else's"} }, func(k *keeper) {
		// The other one is told of by the kernel, as often as one may be.
		for range 40 {
			select {
			case k.changes <- struct{}{}:
			default:
			}
			k.pass(settle + time.Millisecond)
		}
		if got := len(k.applies); got != budgetTimes {
			t.Errorf("Applied in the first ten seconds: got %d times, want %d", got, budgetTimes)
		}
		if k.applied.Fight == "" || !strings.Contains(k.applied.Fight, "more than 10 times in 5s: resolv.conf is somebody else's") {
			t.Errorf("Fight: got %q, want it remembered", k.applied.Fight)
		}
		k.status("fought over since ")
		k.pass(time.Hour)
		if got := len(k.applies) - budgetTimes; got < 12 || got > 20 {
			t.Errorf("Applied in the next hour: got %d times, want once each five minutes after some more", got)
		}
		checkBudget(t, k.applies)

		k.tramples, k.missing = false, nil
		k.since()
		k.pass(forgiven - 2*time.Second)
		k.want("Within a calm minute")
		k.pass(3 * time.Second)
		if got := k.since(); len(got) != 1 || !strings.HasSuffix(got[0], " fight: ") {
			t.Errorf("After a calm minute: did %q, want the fight forgotten", got)
		}
		k.status("mode resolved")
		k.missing = []string{"resolv.conf is somebody else's"}
		k.pass(time.Second)
		if got := k.since(); len(got) != 1 {
			t.Errorf("Overwritten after the fight is over: did %q, want it applied at once", got)
		}
	})
}

// TestWatchRarelyTriesWhatFails holds that a machine on which Apply fails in the end is not changed back and forth each second.
func TestWatchRarelyTriesWhatFails(t *testing.T) {
	watched(t, func(k *keptInMemory) {
		k.missing, k.fails["apply"] = []string{"resolv.conf is somebody else's"}, errors.New("the machine does not find the mesh")
	}, func(k *keeper) {
		k.pass(10 * time.Minute)
		if got := len(k.since()); got < 20 || got > 30 {
			t.Errorf("Tries in ten minutes: got %d, want some 25", got)
		}
		k.said("cannot apply again what others have changed", 1)
		k.said("cannot take name resolution over again", 1)
		k.status("withdrawn since then: the machine does not find the mesh")
		delete(k.fails, "apply")
		k.pass(longestRetry)
		if got := k.since(); len(got) != 1 || !strings.Contains(got[0], " apply ") {
			t.Errorf("When it works: did %q, want it applied once", got)
		}
		k.said("it works again", 1)
		k.silent = true
		k.pass(10 * time.Second)
		k.silent = false
		k.since()
		k.pass(time.Second)
		if got := k.since(); len(got) != 1 {
			t.Errorf("After a success: did %q, want the next try without a pause", got)
		}
	})
}

func TestWatchHosts(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.pass(time.Minute)
		k.want("While the hosts are the same")
		k.hosts = []string{"pay.example.com", "*.ship.example.com"}
		k.pass(hostsInterval)
		if got := k.since(); len(got) != 1 || !strings.HasSuffix(got[0], " apply cluster.local,pay.example.com,ship.example.com") {
			t.Errorf("One host more: did %q, want it applied once", got)
		}
		k.hosts = []string{"pay.example.com", "ship.example.com"}
		k.pass(time.Minute)
		k.want("The same domains by other hosts")
		k.hosts = nil
		k.pass(hostsInterval)
		if got := k.since(); len(got) != 1 || !strings.HasSuffix(got[0], " apply cluster.local") {
			t.Errorf("No host: did %q, want it applied once", got)
		}
		k.fails["wish"] = errors.New("no such socket")
		k.hosts = []string{"other.example.com"}
		k.pass(time.Minute)
		k.want("While CoreDNS does not say which")
		k.said("cannot ask CoreDNS for the mesh's hosts", 1)
		delete(k.fails, "wish")
		k.pass(hostsInterval)
		if got := k.since(); len(got) != 1 {
			t.Errorf("When it says so again: did %q, want it applied once", got)
		}
	})
}

// TestWatchRemembersResolvers holds that the State says whom CoreDNS forwards to now, as redirect status shows it.
func TestWatchRemembersResolvers(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.pass(time.Minute)
		k.want("While the resolvers are the same")
		upstreams := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.77:53")}
		k.facts.Upstreams = map[Mode][]netip.AddrPort{keeperMode: upstreams}
		k.changes <- struct{}{}
		k.pass(settle + hostsInterval)
		if got := k.since(); len(got) != 1 || !slices.Equal(k.applied.Plan.Upstreams, upstreams) {
			t.Errorf("Other resolvers: did %q, want it applied once, and %v remembered, got %v", got, upstreams, k.applied.Plan.Upstreams)
		}
		k.said("what is to be redirected has changed", 0)
		k.pass(time.Minute)
		k.want("Afterwards")
	})
}

// TestWatchFollowsTheMachine has systemd-resolved end, which nobody needs to write a file for.
func TestWatchFollowsTheMachine(t *testing.T) {
	watched(t, nil, func(k *keeper) {
		k.pass(time.Minute)
		k.facts = Facts{}
		k.pass(upstreamsInterval + hostsInterval + settled)
		if got := k.since(); len(got) != 1 || k.applied.Plan.Mode != Direct {
			t.Errorf("Another owner: did %q, want mode direct applied once, got %s", got, k.applied.Plan.Mode)
		}
		k.facts = splitFacts
		k.changes <- struct{}{}
		k.pass(settle + hostsInterval + settled)
		if got := k.since(); len(got) != 1 || k.applied.Plan.Mode != Resolved {
			t.Errorf("The first owner again, and a file says so: did %q, want mode resolved applied once, got %s", got, k.applied.Plan.Mode)
		}
	})
}

// TestWatchGoesOnByWhatWasAskedFor holds that what somebody has applied by hand stays, whatever Watch is told besides.
func TestWatchGoesOnByWhatWasAskedFor(t *testing.T) {
	for name, wished := range map[string]Wished{
		"nothing in particular": {},
		"a mode":                {Mode: keeperMode},
		"every name":            {AllNames: true},
		"all":                   {Mode: keeperMode, AllNames: true, Transparent: true},
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, func(k *keptInMemory) { k.applied.Plan.Wished = wished; k.hosts = []string{"other.example.com"} }, func(k *keeper) {
				k.pass(hostsInterval)
				k.missing = []string{"resolv.conf is somebody else's"}
				k.pass(time.Second)
				if len(k.wishes) < 2 {
					t.Fatalf("Decided: got %d times, want 2", len(k.wishes))
				}
				for _, wish := range k.wishes {
					if got := (Wished{wish.Mode, wish.AllNames, wish.Transparent}); got != wished {
						t.Errorf("Decided by: got %+v, want %+v", got, wished)
					}
					if !slices.Equal(wish.Hosts, k.hosts) || wish.Server != packaged {
						t.Errorf("Decided by: got %+v, want what the mesh says for the rest", wish)
					}
				}
				if got := k.applied.Plan.Wished; got != wished {
					t.Errorf("Remembered: got %+v, want %+v", got, wished)
				}
			})
		})
	}
}

func TestWatchSaysFailuresOnce(t *testing.T) {
	for operation, what := range map[string]string{
		"state": "cannot read what was applied", "holds": "cannot see what is in force", "upstreams": "cannot follow the machine's own resolvers",
		"wish": "cannot ask CoreDNS for the mesh's hosts",
	} {
		t.Run(operation, func(t *testing.T) {
			watched(t, func(k *keptInMemory) { k.fails[operation] = errors.New("one reason") }, func(k *keeper) {
				k.pass(5 * time.Minute)
				k.said(what, 1)
				k.said("one reason", 1)
				k.fails[operation] = errors.New("another")
				k.pass(5 * time.Minute)
				k.said(what, 2)
				delete(k.fails, operation)
				k.pass(5 * time.Minute)
				k.said("it works again", 1)
				k.want("All the while")
				k.status("mode resolved")
			})
		})
	}
}

func TestWatchWithoutARedirect(t *testing.T) {
	watched(t, func(k *keptInMemory) { k.applied = nil }, func(k *keeper) {
		k.pass(time.Minute)
		k.want("Where nothing was applied")
		k.status("nothing is redirected")
		if k.looked < 2 {
			t.Errorf("Looks for resolvers: got %d, want them followed, since CoreDNS forwards all the same", k.looked)
		}
	})
}

// TestWatchEnds holds that the end changes nothing: whoever ends it reverts, or starts it again.
func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, func(k *keptInMemory) { k.silent = true })
		k.pass(4 * time.Second)
		k.stop()
		k.pass(time.Hour)
		k.want("After the end")
	})
}
