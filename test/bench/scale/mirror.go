package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/watch"
)

// mirrored is one real VM beside the simulated ones: plugin/watch keeps a plugin/mirror.
type mirrored struct {
	watch.Ignore

	client *watch.Client
	mirror *mirror.Mirror
	end    context.CancelFunc
	ended  chan error

	mu     sync.Mutex
	delays []time.Duration
}

// follow starts a real VM and waits until it is in step.
func follow(ctx context.Context, s *syncer, c *credentials) (*mirrored, error) {
	m := &mirrored{mirror: mirror.New(mirror.Options{TTL: 30, EndpointTTL: 5}), ended: make(chan error, 1)}
	client, err := watch.New(watch.Config{
		Addresses:  []string{s.address},
		ServerName: serverName,
		TLS:        watch.TLSFiles{CertFile: c.path("vm.pem"), KeyFile: c.path("key.pem"), CAFile: c.path("ca.pem")},
		Node:       "mirror",
		Version:    "bench",
	}, m.mirror, nil, m)
	if err != nil {
		return nil, err
	}
	m.client = client
	ctx, m.end = context.WithCancel(ctx)
	go func() { m.ended <- client.Run(ctx) }()
	return m, m.await(ctx, func() bool { return client.Status().Synced })
}

func (m *mirrored) await(ctx context.Context, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the real VM: %w", context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// awaitRevision waits until the mirror is at a revision.
func (m *mirrored) awaitRevision(ctx context.Context, revision uint64) error {
	return m.await(ctx, func() bool { return m.mirror.State().Position().GetRevision() >= revision })
}

func (m *mirrored) stop() error {
	m.end()
	if err := <-m.ended; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Applied implements watch.Observer.
func (m *mirrored) Applied(delta watch.Applied) {
	if delay, known := delta.Delay(); known {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.delays = append(m.delays, delay)
	}
}

// takeDelays is from commit to applied of every delta since the last call.
func (m *mirrored) takeDelays() []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	delays := m.delays
	m.delays = nil
	return delays
}
