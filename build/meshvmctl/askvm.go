package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/watch"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// TTLs that a VM answers with unless its Corefile says otherwise, in seconds.
const (
	defaultTTL         = 30
	defaultEndpointTTL = 5
)

// askAsVM reads the answer from what a VM holds.
func (l *lookup) askAsVM(ctx context.Context) (explain.Explanation, error) {
	state, err := l.follow(ctx)
	if err != nil {
		return explain.Explanation{}, err
	}
	return l.answer(state)
}

// follow fills a mirror over a stream, as a VM does.
func (l *lookup) follow(ctx context.Context) (*mirror.State, error) {
	config := l.connection
	config.Addresses = []string{l.syncer}
	config.Namespace = l.namespace
	config.Version = "meshvmctl " + version
	if config.Node = l.node; config.Node == "" {
		config.Node, _ = os.Hostname() // for people, and for Sidecars that select VMs
	}
	m := mirror.New(mirror.Options{Namespace: l.namespace, TTL: defaultTTL, EndpointTTL: defaultEndpointTTL})
	progress := newProgress()
	client, err := watch.New(config, m, nil, progress)
	if err != nil {
		return nil, usageError{err}
	}
	watching, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() { _ = client.Run(watching) }) // it ends as it is told to

	select {
	case <-progress.synced:
		return m.State(), nil
	case <-progress.failed:
		return nil, fmt.Errorf("follow the syncer: %s", client.Status().LastError)
	case <-ctx.Done():
		reason := cmp.Or(client.Status().LastError, ctx.Err().Error())
		return nil, fmt.Errorf("%s has not sent the registry within %s: %s", l.syncer, l.timeout, reason)
	}
}

// progress tells when the mirror is in step, and when a stream did not come about: who asks by hand
// wants to know that at once.
type progress struct {
	watch.Ignore
	synced, failed       chan struct{}
	syncedOnce, failOnce sync.Once
}

func newProgress() *progress {
	return &progress{synced: make(chan struct{}), failed: make(chan struct{})}
}

// Heartbeat implements watch.Observer.
func (p *progress) Heartbeat(time.Time) { p.syncedOnce.Do(func() { close(p.synced) }) }

// ConnectFailed implements watch.Observer.
func (p *progress) ConnectFailed(string, watch.Cause) { p.failOnce.Do(func() { close(p.failed) }) }
