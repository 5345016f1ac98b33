package redirect

import (
	"fmt"
	"time"
)

// Others may write what was applied, and write it again. After so many times in a window it is a fight, which nobody wins. The long
// window is for who writes so often that it is looked at once a second only.
const (
	budgetTimes  = 10
	budgetWindow = 5 * time.Second
	longTimes    = 30
	longWindow   = time.Minute
	// firstPause and longestPause bound how long a fight is left alone, twice as long each time.
	firstPause   = 10 * time.Second
	longestPause = 5 * time.Minute
	// forgiven is how long nobody may have overwritten anything for the fight to be over.
	forgiven = time.Minute
)

// budget is how often something may be applied again. The zero budget is fresh.
type budget struct {
	spent []time.Time
	// since is when the fight began. Zero: there is none. next is when it may be applied again, after pause.
	since, next time.Time
	pause       time.Duration
	last        time.Time
	// over is what was spent: so many times in such a window.
	over string
}

// spend asks for one more time. Pause is how long to wait instead: 0 means go on. Fighting: the budget was used up.
func (b *budget) spend(now time.Time) (pause time.Duration, fighting bool) {
	b.last = now
	if now.Before(b.next) {
		return b.next.Sub(now), true
	}
	for len(b.spent) > 0 && now.Sub(b.spent[0]) >= longWindow {
		b.spent = b.spent[1:]
	}
	b.spent = append(b.spent, now)
	if b.since.IsZero() {
		switch {
		case len(b.spent) >= budgetTimes && now.Sub(b.spent[len(b.spent)-budgetTimes]) < budgetWindow:
			b.over = fmt.Sprintf("%d times in %s", budgetTimes, budgetWindow)
		case len(b.spent) >= longTimes:
			b.over = fmt.Sprintf("%d times in %s", longTimes, longWindow)
		default:
			return 0, false
		}
		b.since = now
	}
	b.pause = min(max(2*b.pause, firstPause), longestPause)
	b.next = now.Add(b.pause)
	return 0, true
}

// calm is told that nothing is missing. True: nobody has overwritten anything for long enough, and the budget is fresh.
func (b *budget) calm(now time.Time) bool {
	if b.last.IsZero() {
		return true
	}
	if now.Sub(b.last) < forgiven {
		return false
	}
	*b = budget{}
	return true
}

// retry is when something that failed may be tried again. The zero retry is due.
type retry struct {
	next  time.Time
	pause time.Duration
}

func (r *retry) due() bool { return !time.Now().Before(r.next) }

// note is told how a try ended.
func (r *retry) note(failed bool) {
	if !failed {
		*r = retry{}
		return
	}
	r.pause = min(max(2*r.pause, firstRetry), longestRetry)
	r.next = time.Now().Add(r.pause)
}
