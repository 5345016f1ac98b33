package watch

import (
	"math/rand/v2"
	"time"
)

// backoff is exponential with full jitter: each delay is anywhere between zero and a ceiling that
// doubles up to a cap, so that VMs which lost one syncer together do not come back together.
type backoff struct {
	base, cap time.Duration
	// jitter picks a duration from zero up to and including its argument. Nil: at random.
	jitter   func(time.Duration) time.Duration
	attempts int
}

// ceiling is the longest that the next delay may be.
func (b *backoff) ceiling() time.Duration {
	ceiling := b.base
	for range b.attempts {
		if ceiling >= b.cap/2 {
			return b.cap
		}
		ceiling *= 2
	}
	return min(ceiling, b.cap)
}

// next is the delay before the next attempt.
func (b *backoff) next() time.Duration {
	ceiling := b.ceiling()
	if ceiling < b.cap {
		b.attempts++
	}
	if b.jitter != nil {
		return b.jitter(ceiling)
	}

	return rand.N(ceiling + 1)
}

func (b *backoff) reset() { b.attempts = 0 }
