package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// changeRates are per second.
var changeRates = []float64{1, 10, 100}

// changes measures what a change costs, and how long it is on its way, at several rates.
func (b *bench) changes(ctx context.Context, vms int) (err error) {
	w, err := b.watched(ctx, vms, b.services)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	genuine, err := follow(ctx, w.syncer, b.credentials)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, genuine.stop()) }()

	idle, err := w.idle(ctx, b.idle)
	if err != nil {
		return err
	}
	add := func(name, unit string, value float64) { b.report.add("change", vms, b.services, name, unit, value) }
	add("CPU of heartbeats, per VM and second", "µs", idle.cpu/float64(vms))
	add("TCP of heartbeats, per VM and second", "B", idle.tcp/float64(vms))
	for _, rate := range changeRates {
		at := fmt.Sprintf(", %g changes/s", rate)
		if err := b.profile(w.syncer, "cpu", fmt.Sprintf("cpu-%d-%g", vms, rate)); err != nil {
			return err
		}
		var mirrored []time.Duration
		for range b.rounds {
			w.fleet.record()
			genuine.takeDelays()
			cost, err := w.change(ctx, int(max(1, rate*b.duration.Seconds())), rate, idle)
			if err != nil {
				return err
			}
			if err := genuine.awaitRevision(ctx, cost.revision); err != nil {
				return err
			}
			delays := w.fleet.takeDelays()
			slices.Sort(delays)
			mirrored = append(mirrored, genuine.takeDelays()...)
			add("commit to applied, p50"+at, "ms", quantile(delays, 0.5))
			add("commit to applied, p99"+at, "ms", quantile(delays, 0.99))
			add("commit to applied, longest"+at, "ms", quantile(delays, 1))
			add("message bytes per change and VM"+at, "B", cost.messageBytes)
			add("TCP bytes per change and VM"+at, "B", cost.tcp)
			add("syncer CPU per change and VM"+at, "µs", cost.cpu)
			add("syncer CPU busy"+at, "% of a CPU", cost.busy)
		}
		if err := b.profile(w.syncer, "cpu", ""); err != nil {
			return err
		}
		slices.Sort(mirrored)
		add("a real mirror, commit to applied, p50"+at, "ms", quantile(mirrored, 0.5))
		add("a real mirror, commit to applied, p99"+at, "ms", quantile(mirrored, 0.99))
	}
	return nil
}

// size measures whether a change costs more where there are ten times as many services, in turns.
func (b *bench) size(ctx context.Context, vms int) (err error) {
	const rate = 20
	sizes := []int{b.services, 10 * b.services}
	var worlds []*watched
	defer func() {
		for _, w := range worlds {
			err = errors.Join(err, w.end())
		}
	}()
	for _, services := range sizes {
		w, err := b.watched(ctx, vms, services)
		if err != nil {
			return err
		}
		worlds = append(worlds, w)
		b.report.add("size", vms, services, "message bytes of a cold start, per VM", "kB", float64(w.fleet.whole)/1000)
	}
	if err := settle(worlds); err != nil {
		return err
	}
	starts := make([]mark, len(worlds))
	for i, w := range worlds {
		if starts[i], err = w.mark(); err != nil {
			return err
		}
	}
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	idles := make([]rates, len(worlds))
	for i, w := range worlds {
		if idles[i], err = w.since(starts[i]); err != nil {
			return err
		}
	}
	for range b.rounds {
		var cpu []float64
		for i, w := range worlds {
			cost, err := w.change(ctx, int(rate*b.duration.Seconds()), rate, idles[i])
			if err != nil {
				return err
			}
			b.report.add("size", vms, sizes[i], "message bytes per change and VM", "B", cost.messageBytes)
			b.report.add("size", vms, sizes[i], "syncer CPU per change and VM", "µs", cost.cpu)
			cpu = append(cpu, cost.cpu)
		}
		b.report.add("size", vms, sizes[1], fmt.Sprintf("syncer CPU per change, to that at %d services", sizes[0]), "ratio", cpu[1]/cpu[0])
	}
	return nil
}

// watched is a syncer and a fleet that follows it.
type watched struct {
	syncer *syncer
	fleet  *fleet
}

func (b *bench) watched(ctx context.Context, vms, services int) (*watched, error) {
	return b.watchedWith(ctx, vms, childConfig{Services: services, Views: b.views})
}

func (b *bench) watchedWith(ctx context.Context, vms int, config childConfig) (*watched, error) {
	w := &watched{}
	var err error
	if w.fleet, err = newFleet(vms, b.views, b.credentials); err != nil {
		return nil, err
	}
	if w.syncer, err = startSyncerWith(ctx, config, b.credentials); err != nil {
		return nil, err
	}
	if err := w.fleet.connect(ctx, w.syncer); err != nil {
		return nil, errors.Join(err, w.end())
	}
	return w, nil
}

// end ends both.
func (w *watched) end() error {
	w.fleet.stop()
	return w.syncer.stop()
}

// rates are what all VMs together cost while nothing changes, per second.
type rates struct{ cpu, tcp float64 }

// idle measures them.
func (w *watched) idle(ctx context.Context, duration time.Duration) (rates, error) {
	if err := settle([]*watched{w}); err != nil {
		return rates{}, err
	}
	start, err := w.mark()
	if err != nil {
		return rates{}, err
	}
	if err := pause(ctx, duration); err != nil {
		return rates{}, err
	}
	return w.since(start)
}

// settle has the syncers' garbage of connecting gone, whose cost belongs to nobody.
func settle(worlds []*watched) error {
	for _, w := range worlds {
		if _, err := w.syncer.do(command{Do: "settle"}); err != nil {
			return err
		}
	}
	return nil
}

// mark is where measuring begins.
type mark struct {
	at   time.Time
	cpu  time.Duration
	sent traffic
}

func (w *watched) mark() (mark, error) {
	said, err := w.syncer.do(command{Do: "measure"})
	return mark{at: time.Now(), cpu: said.CPU, sent: w.fleet.traffic()}, err
}

func (w *watched) since(start mark) (rates, error) {
	end, err := w.mark()
	seconds := end.at.Sub(start.at).Seconds()
	return rates{cpu: micros(end.cpu-start.cpu) / seconds, tcp: float64(end.sent.since(start.sent).tcp) / seconds}, err
}

// changeCost is what one change costs for one VM, heartbeats taken away.
type changeCost struct {
	revision               uint64
	messageBytes, tcp, cpu float64
	// busy is the syncer's share of one CPU, in percent, heartbeats with it.
	busy float64
}

func (w *watched) change(ctx context.Context, count int, rate float64, idle rates) (changeCost, error) {
	before, err := w.syncer.do(command{Do: "measure"})
	if err != nil {
		return changeCost{}, err
	}
	sent, began := w.fleet.traffic(), time.Now()
	changed, err := w.syncer.do(command{Do: "change", Count: count, Rate: rate})
	if err != nil {
		return changeCost{}, err
	}
	if err := w.fleet.awaitRevision(ctx, changed.Revision); err != nil {
		return changeCost{}, err
	}
	after, err := w.syncer.do(command{Do: "measure"})
	if err != nil {
		return changeCost{}, err
	}
	seconds := time.Since(began).Seconds()
	went := w.fleet.traffic().since(sent)
	each := float64(count * len(w.fleet.vms))
	cpu := micros(after.CPU - before.CPU)
	return changeCost{
		revision:     changed.Revision,
		messageBytes: float64(went.deltaBytes) / each,
		tcp:          (float64(went.tcp) - idle.tcp*seconds) / each,
		cpu:          (cpu - idle.cpu*seconds) / each,
		busy:         cpu / seconds / 1e4,
	}, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func pause(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
