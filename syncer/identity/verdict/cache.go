package verdict

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/lru"

	"github.com/meshvm/meshvm/syncer/identity"
)

// Key names a question by a digest of it. What is asked may be a secret, and is not kept.
type Key = [sha256.Size]byte

// Options of a Cache. All but Now are needed.
type Options struct {
	// Size is how many good verdicts are kept at most, and how many bad ones.
	Size int
	// Good is how long a good verdict counts at most, and Bad how long a refusal does.
	Good, Bad time.Duration
	// Kept is how long beyond its own time the last good verdict goes on while nobody can tell, and Again how long it
	// does so before it is asked again.
	Kept, Again time.Duration
	// AtOnce is how many questions are asked at once about what was good once, and how many about what was not: strangers
	// do not stand in the way of those who are known. Timeout is how long one may take, with the wait for its turn.
	AtOnce  int
	Timeout time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Answer is a good verdict.
type Answer[V any] struct {
	Value V
	// Ends is when it is certainly over. Zero: never.
	Ends time.Time
}

// Outcome is where a verdict is from.
type Outcome int

// Outcomes.
const (
	Remembered Outcome = iota // it was known, or another has asked
	Asked                     // it was asked just now
	Kept                      // nobody can tell: the last good verdict goes on
)

// Cache of verdicts. Its methods are safe for concurrent use.
type Cache[V any] struct {
	options Options
	turns   map[bool]chan struct{} // by whether the verdict was good once
	good    *lru.Cache             // Key to *known[V]
	bad     *lru.Cache             // Key to refused

	mu      sync.Mutex // over running, and over what good points to
	running map[Key]*question[V]
}

// known is a verdict that was good.
type known[V any] struct {
	Answer[V]
	asked time.Time
	until time.Time // when it is asked again
	taken bool      // it is good no longer
}

type refused struct {
	refusal *identity.Refusal
	until   time.Time
}

// question is one that is being asked.
type question[V any] struct {
	done  chan struct{}
	value V
	err   error
	left  bool // who asked has gone, and has learned nothing
}

// New returns an empty cache.
func New[V any](options Options) *Cache[V] {
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Cache[V]{
		options: options,
		turns:   map[bool]chan struct{}{false: make(chan struct{}, options.AtOnce), true: make(chan struct{}, options.AtOnce)},
		good:    lru.New(options.Size),
		bad:     lru.New(options.Size),
		running: map[Key]*question[V]{},
	}
}

// Get returns the verdict for a key, and asks for it where none counts. An error of ask that is a *identity.Refusal is a bad verdict;
// any other means that nobody can tell. Ask is told whether the verdict was good once.
func (c *Cache[V]) Get(ctx context.Context, key Key, ask func(ctx context.Context, wasGood bool) (Answer[V], error)) (V, Outcome, error) {
	for {
		c.mu.Lock()
		if value, err, found := c.remembered(key); found {
			c.mu.Unlock()
			return value, Remembered, err
		}
		q := c.running[key]
		if q == nil {
			q = &question[V]{done: make(chan struct{})}
			c.running[key] = q
			c.mu.Unlock()
			return c.lead(ctx, key, q, ask)
		}
		c.mu.Unlock()
		select {
		case <-q.done:
			if !q.left {
				return q.value, Remembered, q.err
			}
		case <-ctx.Done():
			value, outcome, err := c.lastGood(key, context.Cause(ctx))
			if err != nil {
				outcome = Remembered // Another has asked.
			}
			return value, outcome, err
		}
	}
}

// remembered is the verdict that counts now, if one does.
func (c *Cache[V]) remembered(key Key) (value V, err error, found bool) { //nolint:revive // The error is the verdict.
	now := c.options.Now()
	if kept, found := c.bad.Get(key); found {
		if bad := kept.(refused); now.Before(bad.until) {
			return value, bad.refusal, true
		}
	}
	if good := c.last(key); good != nil && !good.taken && now.Before(good.until) && good.lives(now) {
		return good.Value, nil, true
	}
	return value, nil, false
}

// last is the last good verdict, nil where there was none.
func (c *Cache[V]) last(key Key) *known[V] {
	if kept, found := c.good.Get(key); found {
		return kept.(*known[V])
	}
	return nil
}

func (k *known[V]) lives(now time.Time) bool { return k.Ends.IsZero() || now.Before(k.Ends) }

// lead asks for all who want to know.
func (c *Cache[V]) lead(ctx context.Context, key Key, q *question[V], ask func(context.Context, bool) (Answer[V], error)) (V, Outcome, error) {
	q.left = true // until there is an answer, even if ask panics
	defer func() {
		c.mu.Lock()
		delete(c.running, key)
		c.mu.Unlock()
		close(q.done)
	}()
	answer, err := c.turn(ctx, key, ask)
	if _, isRefusal := errors.AsType[*identity.Refusal](err); err != nil && !isRefusal {
		value, outcome, err := c.lastGood(key, err)
		q.left = ctx.Err() != nil // The others may have more patience.
		q.value, q.err = value, err
		return value, outcome, err
	}
	c.note(key, answer, err)
	q.left, q.value, q.err = false, answer.Value, err
	return answer.Value, Asked, err
}

// turn waits for a turn and asks.
func (c *Cache[V]) turn(ctx context.Context, key Key, ask func(context.Context, bool) (Answer[V], error)) (Answer[V], error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Timeout, fmt.Errorf("no answer within %s", c.options.Timeout))
	defer cancel()
	c.mu.Lock()
	wasGood := c.last(key) != nil
	c.mu.Unlock()
	turns := c.turns[wasGood]
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return Answer[V]{}, fmt.Errorf("wait for a turn to ask: %w", context.Cause(ctx))
	}
	defer func() { <-turns }()
	return ask(ctx, wasGood)
}

// note keeps a verdict.
func (c *Cache[V]) note(key Key, answer Answer[V], err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	if err == nil {
		c.bad.Remove(key)
		c.good.Add(key, &known[V]{Answer: answer, asked: now, until: now.Add(c.options.Good)})
		return
	}
	refusal, _ := errors.AsType[*identity.Refusal](err)
	c.bad.Add(key, refused{refusal, now.Add(c.options.Bad)})
	if good := c.last(key); good != nil {
		good.taken = true
	}
}

// lastGood is the last good verdict while nobody can tell, or else why nobody can.
func (c *Cache[V]) lastGood(key Key, err error) (V, Outcome, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	good := c.last(key)
	if good == nil || good.taken || !good.lives(now) || !now.Before(good.asked.Add(c.options.Good+c.options.Kept)) {
		var none V
		return none, Asked, err
	}
	good.until = now.Add(c.options.Again)
	return good.Value, Kept, nil
}
