package server

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// rangeKey is what a delta is shared by: the view's name, and the range of revisions. A whole view has from
// zero and replace.
type rangeKey struct {
	view     string
	from, to uint64
	replace  bool
}

// deltaCache holds deltas that were encoded lately, so that every stream that needs one gets the same
// bytes. Two that ask at once wait for one encoding. It is bounded by bytes; the least recently used go
// first.
type deltaCache struct {
	limit   int
	metrics *metrics

	mu    sync.Mutex
	items map[rangeKey]*list.Element
	order *list.List // of *cachedDelta, the most recently used in front
	bytes int
}

// cachedDelta is one delta, or one on its way.
type cachedDelta struct {
	key   rangeKey
	ready chan struct{} // closed when delta and err are set
	delta *delta
	err   error
	// size counts against the limit; zero while on its way.
	size    int
	settled time.Time
}

func (d *cachedDelta) olderThan(age time.Duration) bool {
	return age > 0 && d.size > 0 && time.Since(d.settled) > age
}

// cachedOverhead is what a delta costs the cache beside its frames, roughly.
const cachedOverhead = 512

func newDeltaCache(limit int, m *metrics) *deltaCache {
	return &deltaCache{limit: limit, metrics: m, items: map[rangeKey]*list.Element{}, order: list.New()}
}

// get is the delta of a range, encoded by encode unless that has been done, and not longer ago than
// age where age is not zero. A failure is not kept.
func (c *deltaCache) get(ctx context.Context, key rangeKey, age time.Duration, encode func() (*delta, error)) (*delta, error) {
	c.mu.Lock()
	element, found := c.items[key]
	if found && element.Value.(*cachedDelta).olderThan(age) {
		c.drop(element)
		found = false
	}
	if found {
		c.order.MoveToFront(element)
		c.mu.Unlock()
		c.metrics.cacheHits.Inc()
		item := element.Value.(*cachedDelta)
		select {
		case <-item.ready:
			return item.delta, item.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	item := &cachedDelta{key: key, ready: make(chan struct{})}
	c.items[key] = c.order.PushFront(item)
	c.mu.Unlock()
	c.metrics.cacheMisses.Inc()

	// Whatever happens to encode, nobody is left waiting.
	item.err = errors.New("encoding the delta failed")
	defer c.settle(item)
	item.delta, item.err = encode()
	if item.err != nil {
		item.err = fmt.Errorf("encode revisions %d to %d: %w", key.from, key.to, item.err)
	}
	return item.delta, item.err
}

// put keeps a delta that nobody has asked for yet.
func (c *deltaCache) put(key rangeKey, d *delta) {
	c.mu.Lock()
	if _, found := c.items[key]; found {
		c.mu.Unlock()
		return
	}
	item := &cachedDelta{key: key, ready: make(chan struct{}), delta: d}
	c.items[key] = c.order.PushFront(item)
	c.mu.Unlock()
	c.metrics.cacheMisses.Inc()
	c.settle(item)
}

// forget drops a delta that is of no use any more.
func (c *deltaCache) forget(key rangeKey, useless *delta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, found := c.items[key]; found {
		if item := element.Value.(*cachedDelta); item.size > 0 && item.delta == useless {
			c.drop(element)
		}
	}
}

// settle publishes the outcome and makes room.
func (c *deltaCache) settle(item *cachedDelta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(item.ready)
	if item.err != nil {
		c.drop(c.items[item.key])
		return
	}
	item.settled = time.Now()
	item.size = item.delta.bytes + cachedOverhead
	c.bytes += item.size
	for element := c.order.Back(); element != nil && c.bytes > c.limit; {
		previous := element.Prev()
		if element.Value.(*cachedDelta).size > 0 {
			c.drop(element)
		}
		element = previous
	}
}

func (c *deltaCache) drop(element *list.Element) {
	item := c.order.Remove(element).(*cachedDelta)
	delete(c.items, item.key)
	c.bytes -= item.size
}
