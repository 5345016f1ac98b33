package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// memory measures what an idle VM costs the syncer.
func (b *bench) memory(ctx context.Context, vms int) (err error) {
	w, err := b.watched(ctx, vms, b.services)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	add := func(name, unit string, value float64) { b.report.add("memory", vms, b.services, name, unit, value) }
	for range b.rounds {
		w.fleet.stop()
		alone, err := w.settledAlone(ctx)
		if err != nil {
			return err
		}
		// As VMs come over the day. What a crowd leaves behind shows in the other scenarios.
		for group := range slices.Chunk(w.fleet.vms, 100) {
			w.fleet.start(ctx, w.syncer.address, group)
			if err := w.fleet.awaitSynced(ctx, group); err != nil {
				return err
			}
		}
		// A few heartbeats, so that it is the memory of streams that have been at work.
		if err := pause(ctx, b.duration); err != nil {
			return err
		}
		if err := b.profile(w.syncer, "heap", fmt.Sprintf("heap-%d", vms)); err != nil {
			return err
		}
		with, err := w.syncer.do(command{Do: "settle"})
		if err != nil {
			return err
		}
		each := float64(vms) * 1024
		add("resident memory per idle VM", "KiB", float64(with.RSS-alone.RSS)/each)
		add("heap and stack per idle VM", "KiB", float64(with.Heap+with.Stack-alone.Heap-alone.Stack)/each)
		add("stack per idle VM", "KiB", float64(with.Stack-alone.Stack)/each)
		add("goroutines per idle VM", "", float64(with.Goroutines-alone.Goroutines)/float64(vms))
		add("resident memory without VMs", "MiB", mebibytes(alone.RSS))
	}
	return nil
}

// settledAlone is the syncer's memory once it has noticed that all VMs have gone.
func (w *watched) settledAlone(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		said, err := w.syncer.do(command{Do: "settle"})
		if err != nil || said.Goroutines < int64(max(len(w.fleet.vms), 40)) {
			return said, err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return said, fmt.Errorf("the syncer still has %d goroutines, without VMs: %w", said.Goroutines, err)
		}
	}
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// cold measures all VMs that start with nothing, at once.
func (b *bench) cold(ctx context.Context, vms int) (err error) {
	w, err := b.watched(ctx, vms, b.services)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	for range b.rounds {
		err := b.comeBack(ctx, "cold start", registryv1.Mode_MODE_FULL, w, w.syncer, func() error {
			w.fleet.forget()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resume measures all VMs that lose their connection at once and come back to the same syncer, which has
// gone through a few changes meanwhile.
func (b *bench) resume(ctx context.Context, vms int) (err error) {
	w, err := b.watched(ctx, vms, b.services)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	for range b.rounds {
		err := b.comeBack(ctx, "resume", registryv1.Mode_MODE_RESUME, w, w.syncer, func() error {
			_, err := w.syncer.do(command{Do: "change", Count: 10})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// failover measures all VMs that go over to another syncer at once, where nothing is different and where a
// hundred services are.
func (b *bench) failover(ctx context.Context, vms int) (err error) {
	w, err := b.watched(ctx, vms, b.services)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	other, err := startSyncer(ctx, b.services, b.views, b.credentials)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.stop()) }()
	swap := func() { w.syncer, other = other, w.syncer }
	changed := command{Do: "change", Count: 100}
	for range b.rounds {
		if err := b.comeBack(ctx, "failover", registryv1.Mode_MODE_COMPARE, w, other, nil); err != nil {
			return err
		}
		swap()
		err := b.comeBack(ctx, "failover, 100 changed", registryv1.Mode_MODE_COMPARE, w, other, func() error {
			_, err := other.do(changed)
			return err
		})
		if err != nil {
			return err
		}
		swap()
		// The two are alike again.
		if _, err := other.do(changed); err != nil {
			return err
		}
	}
	return nil
}

// comeBack ends all connections at once, has something happen, and measures what it takes until all VMs
// are in step with a syncer again.
func (b *bench) comeBack(ctx context.Context, scenario string, mode registryv1.Mode, w *watched, to *syncer, away func() error) error {
	vms := len(w.fleet.vms)
	steady, err := w.syncer.do(command{Do: "settle"})
	if err != nil {
		return err
	}
	w.fleet.stop()
	if to != w.syncer {
		if _, err := to.do(command{Do: "settle"}); err != nil {
			return err
		}
	}
	if away != nil {
		if err := away(); err != nil {
			return err
		}
	}
	before, err := to.do(command{Do: "watermark"})
	if err != nil {
		return err
	}
	_, _ = w.fleet.failures() // of before
	sent := w.fleet.traffic()
	w.fleet.start(ctx, to.address, w.fleet.vms)
	if err := w.fleet.awaitSynced(ctx, w.fleet.vms); err != nil {
		return err
	}
	if err := w.fleet.awaitRevision(ctx, before.Revision); err != nil {
		return err
	}
	after, err := to.do(command{Do: "measure"})
	if err != nil {
		return err
	}
	went := w.fleet.traffic().since(sent)
	if modes := w.fleet.modes(); modes[mode] != vms {
		return fmt.Errorf("%s: %v of %d VMs: want all %s", scenario, modes, vms, mode)
	}
	add := func(name, unit string, value float64) { b.report.add(scenario, vms, b.services, name, unit, value) }
	each := float64(vms)
	add("time until all are in step", "s", w.fleet.took().Seconds())
	add("message bytes per VM", "kB", float64(went.messages)/each/1000)
	if mode != registryv1.Mode_MODE_FULL {
		add("message bytes, of a cold start's", "%", 100*float64(went.messages)/each/float64(w.fleet.whole))
	}
	add("TCP bytes per VM", "kB", float64(went.tcp)/each/1000)
	add("syncer CPU per VM", "ms", micros(after.CPU-before.CPU)/each/1000)
	failures, problem := w.fleet.failures()
	if failures > 0 {
		b.report.note("%s, %d VMs: %d connections failed, such as: %v", scenario, vms, failures, problem)
	}
	add("connections that failed and were tried again", "", float64(failures))
	if to != w.syncer {
		// It had no VMs before: what is steady shows afterwards.
		if steady, err = to.do(command{Do: "settle"}); err != nil {
			return err
		}
	}
	if err := b.profile(to, "heap", fmt.Sprintf("heap-%s-%d", strings.NewReplacer(" ", "-", ",", "").Replace(scenario), vms)); err != nil {
		return err
	}
	add("steady resident memory", "MiB", mebibytes(steady.RSS))
	add("peak resident memory", "MiB", mebibytes(after.Peak))
	add("peak to steady", "ratio", float64(after.Peak)/float64(steady.RSS))
	return nil
}
