package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// fleet is many simulated VMs.
type fleet struct {
	vms     []*vm
	ledgers []*ledger
	config  *tls.Config
	// whole is the messages' bytes of a cold start, per VM.
	whole int64

	recording atomic.Bool
	wrong     atomic.Pointer[error] // the first mismatch

	mu      sync.Mutex
	end     context.CancelFunc
	running sync.WaitGroup
	began   time.Time
}

// newFleet is size VMs, spread over so many views. None is connected.
func newFleet(size, views int, c *credentials) (*fleet, error) {
	f := &fleet{config: &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    c.roots,
		ServerName: serverName,
		NextProtos: []string{"h2"},
	}}
	for range views {
		f.ledgers = append(f.ledgers, newLedger())
	}
	for i := range size {
		view := i % views
		certificate, err := c.issueVM(i, viewName(view))
		if err != nil {
			return nil, err
		}
		f.vms = append(f.vms, &vm{
			fleet: f, node: fmt.Sprintf("vm-%d", i), view: viewName(view), ledger: f.ledgers[view],
			// An address of its own, as a machine has.
			local: net.IPv4(127, 1+byte(i/(250*250)), byte(i/250%250), 1+byte(i%250)), certificate: certificate,
		})
	}
	return f, nil
}

func (f *fleet) tls(certificate tls.Certificate) *tls.Config {
	config := f.config.Clone()
	config.Certificates = []tls.Certificate{certificate}
	return config
}

// mismatch notes a heartbeat that does not prove what a VM holds: a fault of the syncer, or of the bench.
func (f *fleet) mismatch(err error) { f.wrong.CompareAndSwap(nil, &err) }

// start has these VMs, all at once, connect to a syncer and follow it.
func (f *fleet) start(ctx context.Context, address string, vms []*vm) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, end := context.WithCancel(ctx)
	if before := f.end; before != nil {
		f.end = func() { before(); end() }
	} else {
		f.end = end
		f.began = time.Now()
	}
	for _, v := range vms {
		v.synced.Store(0)
		f.running.Go(func() { v.follow(ctx, address) })
	}
}

// stop ends all connections at once.
func (f *fleet) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != nil {
		f.end()
		f.end = nil
	}
	f.running.Wait()
}

// forget has all VMs hold nothing.
func (f *fleet) forget() {
	for _, v := range f.vms {
		v.held = holding{}
		v.revision.Store(0)
	}
}

// seed has the first VM of each view fetch it, and all others hold the same. It leaves none connected.
func (f *fleet) seed(ctx context.Context, s *syncer) error {
	first := f.vms[:min(len(f.vms), len(f.ledgers))]
	before := f.traffic()
	f.start(ctx, s.address, first)
	defer f.stop()
	if err := f.awaitSynced(ctx, first); err != nil {
		return err
	}
	f.stop()
	f.whole = f.traffic().since(before).messages / int64(len(first))
	for i, v := range f.vms {
		v.held = f.vms[i%len(f.ledgers)].held
		v.revision.Store(v.held.revision())
	}
	return nil
}

// connect seeds the VMs, connects all and waits until all are proved to be in step.
func (f *fleet) connect(ctx context.Context, s *syncer) error {
	if err := f.seed(ctx, s); err != nil {
		return err
	}
	f.start(ctx, s.address, f.vms)
	return f.awaitSynced(ctx, f.vms)
}

// awaitSynced waits until a heartbeat has proved each of these VMs.
func (f *fleet) awaitSynced(ctx context.Context, vms []*vm) error {
	return f.await(ctx, "a heartbeat proves all VMs", vms, func(v *vm) bool { return v.synced.Load() != 0 })
}

// awaitRevision waits until all VMs are at a revision.
func (f *fleet) awaitRevision(ctx context.Context, revision uint64) error {
	return f.await(ctx, fmt.Sprintf("all VMs are at revision %d", revision), f.vms, func(v *vm) bool { return v.revision.Load() >= revision })
}

// patience is how long anything may take.
const patience = 5 * time.Minute

func (f *fleet) await(ctx context.Context, what string, vms []*vm, condition func(*vm) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		for len(vms) > 0 && condition(vms[0]) {
			vms = vms[1:]
		}
		if wrong := f.wrong.Load(); wrong != nil {
			return *wrong
		}
		if len(vms) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			vms[0].mu.Lock()
			problem := vms[0].problem
			vms[0].mu.Unlock()
			return fmt.Errorf("waiting until %s, %s and %d others of it: %w", what, vms[0].node, len(vms)-1, errors.Join(context.Cause(ctx), problem))
		}
	}
}

// took is how long it took from start until the last VM was in step.
func (f *fleet) took() time.Duration {
	var last int64
	for _, v := range f.vms {
		last = max(last, v.synced.Load())
	}
	return time.Duration(last - f.began.UnixNano())
}

// modes counts the VMs by how they were brought up to date.
func (f *fleet) modes() map[registryv1.Mode]int {
	counts := map[registryv1.Mode]int{}
	for _, v := range f.vms {
		counts[registryv1.Mode(v.mode.Load())]++
	}
	return counts
}

// failures is how many connections failed since the last call, and one of the reasons.
func (f *fleet) failures() (count int64, problem error) {
	for _, v := range f.vms {
		count += v.failures.Swap(0)
		v.mu.Lock()
		if v.problem != nil {
			problem, v.problem = v.problem, nil
		}
		v.mu.Unlock()
	}
	return count, problem
}

// traffic is the bytes of all VMs so far, both ways.
type traffic struct{ tcp, messages, deltaBytes, deltas int64 }

func (f *fleet) traffic() traffic {
	var sum traffic
	for _, v := range f.vms {
		sum.tcp += v.counters.tcpIn.Load() + v.counters.tcpOut.Load()
		sum.messages += v.counters.messageIn.Load() + v.counters.messageOut.Load()
		sum.deltaBytes += v.counters.deltaIn.Load()
		sum.deltas += v.counters.deltas.Load()
	}
	return sum
}

func (t traffic) since(before traffic) traffic {
	return traffic{t.tcp - before.tcp, t.messages - before.messages, t.deltaBytes - before.deltaBytes, t.deltas - before.deltas}
}

// record has the VMs note every delta's delay from now on, and takeDelays is what they noted.
func (f *fleet) record() {
	f.takeDelays()
	f.recording.Store(true)
}

func (f *fleet) takeDelays() []time.Duration {
	f.recording.Store(false)
	var delays []time.Duration
	for _, v := range f.vms {
		v.mu.Lock()
		delays = append(delays, v.delays...)
		v.delays = v.delays[:0]
		v.mu.Unlock()
	}
	return delays
}
