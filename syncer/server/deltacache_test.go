package server

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func newTestCache(limit int) *deltaCache {
	return newDeltaCache(limit, newMetrics(prometheus.NewRegistry()))
}

func TestDeltaCacheEncodesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(1 << 20)
		encodings := 0
		release := make(chan struct{})
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				d, err := c.get(t.Context(), rangeKey{to: 1}, 0, func() (*delta, error) {
					encodings++
					<-release
					return &delta{to: 1}, nil
				})
				if err != nil || d.to != 1 {
					t.Errorf("got %v, %v", d, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		group.Wait()
		if encodings != 1 {
			t.Errorf("encoded %d times, want once", encodings)
		}
	})
}

func TestDeltaCacheKeepsNoFailure(t *testing.T) {
	c := newTestCache(1 << 20)
	fault := errors.New("fault")
	if _, err := c.get(t.Context(), rangeKey{}, 0, func() (*delta, error) { return nil, fault }); !errors.Is(err, fault) {
		t.Errorf("got %v, want the fault", err)
	}
	if d, err := c.get(t.Context(), rangeKey{}, 0, func() (*delta, error) { return &delta{to: 5}, nil }); err != nil || d.to != 5 {
		t.Errorf("after a fault: %v, %v", d, err)
	}
}

func TestDeltaCacheLeavesNobodyWaiting(t *testing.T) {
	t.Run("encode panics", func(t *testing.T) {
		c := newTestCache(1 << 20)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _ = c.get(t.Context(), rangeKey{}, 0, func() (*delta, error) { panic("fault") })
		}()
		if _, err := c.get(t.Context(), rangeKey{}, 0, func() (*delta, error) { return &delta{}, nil }); err != nil {
			t.Errorf("after a panic: %v", err)
		}
	})
	t.Run("the stream ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newTestCache(1 << 20)
			release := make(chan struct{})
			go func() {
				_, _ = c.get(t.Context(), rangeKey{}, 0, func() (*delta, error) { <-release; return &delta{}, nil })
			}()
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := c.get(ctx, rangeKey{}, 0, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's end", err)
			}
			close(release)
		})
	})
}

func TestDeltaCacheIsBounded(t *testing.T) {
	const size = 1000
	c := newTestCache(3 * (size + cachedOverhead))
	put := func(to uint64) (encoded bool) {
		_, err := c.get(t.Context(), rangeKey{to: to}, 0, func() (*delta, error) {
			encoded = true
			return &delta{to: to, bytes: size}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	for to := range uint64(4) {
		put(to)
	}
	if put(3) || put(2) || put(1) {
		t.Error("one of the latest three was not kept")
	}
	if !put(0) {
		t.Error("the oldest was kept beyond the limit")
	}
	if c.bytes > c.limit || len(c.items) != 3 || c.order.Len() != 3 {
		t.Errorf("holds %d bytes of %d in %d items", c.bytes, c.limit, len(c.items))
	}
}

func TestDeltaCacheAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(1 << 20)
		encodings := 0
		get := func(age time.Duration) {
			_, err := c.get(t.Context(), rangeKey{replace: true}, age, func() (*delta, error) {
				encodings++
				return &delta{}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		get(time.Second)
		time.Sleep(time.Second)
		get(time.Second)
		if encodings != 1 {
			t.Errorf("encoded %d times within the age, want once", encodings)
		}
		time.Sleep(time.Millisecond)
		get(0)
		get(time.Second)
		if encodings != 2 {
			t.Errorf("encoded %d times after the age, want twice", encodings)
		}
	})
}
