package watch

import (
	"math/rand/v2"
	"slices"
	"time"
)

// addresses says which syncer to try next.
type addresses struct {
	all []string
	// preferred is the last that brought the mirror into step. Empty: none yet.
	preferred string
	// avoided is the last whose syncer fell silent. Empty: none.
	avoided string
	// held are addresses whose syncer asked to be left alone until then.
	held map[string]time.Time
	// barred are addresses whose syncer does not let this VM in, or that cannot be shown a credential, until when
	// they are tried again.
	barred map[string]time.Time
}

func newAddresses(all []string) addresses {
	return addresses{all: distinct(all), held: make(map[string]time.Time), barred: make(map[string]time.Time)}
}

// order is the preferred address, then the others at random, the avoided one last, without those that
// are held or barred.
func (a *addresses) order(now time.Time) []string {
	order := make([]string, 0, len(a.all))
	for _, address := range a.all {
		if a.wait(address, now) == 0 {
			order = append(order, address)
		}
	}

	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	if i := slices.Index(order, a.preferred); i > 0 {
		order[0], order[i] = order[i], order[0]
	}
	if i, last := slices.Index(order, a.avoided), len(order)-1; i >= 0 {
		order[i], order[last] = order[last], order[i]
	}
	return order
}

func (a *addresses) prefer(address string) {
	a.preferred = address
	delete(a.barred, address)
	if a.avoided == address {
		a.avoided = ""
	}
}

// choose forgets which address was preferred: the next one is any of all that are not avoided or held. A VM
// that is asked to connect anew does so, and many of them are spread evenly again.
func (a *addresses) choose() { a.preferred = "" }

// avoid puts an address last whose syncer fell silent: to find that out again costs a timeout, while
// another syncer may answer at once.
func (a *addresses) avoid(address string) {
	a.avoided = address
	if a.preferred == address {
		a.preferred = ""
	}
}

// hold leaves an address alone until then.
func (a *addresses) hold(address string, until time.Time) { a.held[address] = until }

// bar leaves an address alone until then, or until pardon.
func (a *addresses) bar(address string, until time.Time) { a.barred[address] = until }

// pardon lets barred addresses be tried again. It reports whether there were any.
func (a *addresses) pardon() bool {
	found := len(a.barred) > 0
	clear(a.barred)
	return found
}

// wait is how long an address is to be left alone yet.
func (a *addresses) wait(address string, now time.Time) time.Duration {
	return max(0, a.held[address].Sub(now), a.barred[address].Sub(now))
}

// free is how long until some address is neither held nor barred; zero where one is not now.
func (a *addresses) free(now time.Time) time.Duration {
	var least time.Duration
	for i, address := range a.all {
		if wait := a.wait(address, now); i == 0 || wait < least {
			least = wait
		}
	}
	return least
}
