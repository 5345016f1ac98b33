package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// strangersRate is of connections, and strangersChanges of changes, per second.
const (
	strangersRate    = 1000
	strangersChanges = 10
)

// strangersKinds are those of attack.Kind, in the order in which they are measured, and whether they need a syncer
// that takes tokens: that one lets go on with TLS who has no certificate.
var strangersKinds = []struct {
	kind   string
	tokens bool
}{
	{"silent", false},
	{"garbage", false},
	{"hello", false},
	{"no-certificate", false},
	{"untrusted", false},
	{"no-token", true},
	{"no-stream", true},
}

// strangers measures how long changes are on their way to VMs while a thousand strangers a second connect, from one
// address and from many, and how long it is without them, in turns.
func (b *bench) strangers(ctx context.Context, vms int) error {
	for _, tokens := range []bool{false, true} {
		if err := b.strangersOf(ctx, vms, tokens); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) strangersOf(ctx context.Context, vms int, tokens bool) (err error) {
	var chosen []string
	for _, k := range strangersKinds {
		if k.tokens == tokens && (b.kinds == "" || slices.Contains(strings.Split(b.kinds, ","), k.kind)) {
			chosen = append(chosen, k.kind)
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	w, err := b.watchedWith(ctx, vms, childConfig{Services: b.services, Views: b.views, Tokens: tokens})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	late, err := b.latecomers(ctx, w)
	if err != nil {
		return err
	}
	defer late.stop()
	certificate, key, err := strangeCertificate()
	if err != nil {
		return err
	}
	for range b.rounds {
		for _, kind := range chosen {
			for _, sources := range []int{1, 10_000} {
				b.attacks++
				err := b.attacked(ctx, w, late, attack{
					Address: w.syncer.address, Kind: kind, Rate: strangersRate, Seconds: b.strangersFor.Seconds(),
					// No two attacks share ports that the kernel still holds for a while.
					Sources: sources, First: net.IPv4(127, byte(100+b.attacks%100), 1, 1), Certificate: certificate, Key: key,
				})
				if err != nil {
					return fmt.Errorf("%s: %w", kind, err)
				}
			}
		}
	}
	return nil
}

// latecomers are two VMs that come in the middle of an attack: one from where it was before, one from an address of
// strangers. What they hold is current, so that it is TLS that counts and not the view.
func (b *bench) latecomers(ctx context.Context, w *watched) (*fleet, error) {
	late, err := newFleet(2, 1, b.credentials)
	if err != nil {
		return nil, err
	}
	late.vms[0].local = net.IPv4(127, 99, 1, 1)
	return late, late.seed(ctx, w.syncer)
}

// attacked is one measurement: quiet, and then with strangers.
func (b *bench) attacked(ctx context.Context, w *watched, late *fleet, what attack) error {
	from := "one address"
	if what.Sources > 1 {
		from = "many addresses"
	}
	add := func(name, unit string, value float64) {
		b.report.add("strangers: "+what.Kind+", from "+from, len(w.fleet.vms), b.services, name, unit, value)
	}
	if _, err := w.syncer.do(command{Do: "settle"}); err != nil {
		return err
	}
	quiet, _, err := b.delays(ctx, w)
	if err != nil {
		return err
	}
	// There are strangers a little before the first change and after the last.
	lead := min(b.strangersFor/4, time.Second/2)
	what.Seconds += 3 * lead.Seconds()
	await, err := launch(ctx, what)
	if err != nil {
		return err
	}
	came := make(chan error, 1)
	late.vms[1].local = what.First
	go func() { came <- b.comeLate(ctx, w, late, add) }()
	if err := pause(ctx, lead); err != nil {
		return errors.Join(err, <-came)
	}
	if err := b.profile(w.syncer, "cpu", fmt.Sprintf("strangers-%s-%d", what.Kind, what.Sources)); err != nil {
		return errors.Join(err, <-came)
	}
	loud, cost, err := b.delays(ctx, w)
	var said attacked
	if err == nil {
		said, err = await()
	}
	if err == nil {
		err = b.profile(w.syncer, "cpu", "")
	}
	if err == nil {
		err = b.profile(w.syncer, "heap", fmt.Sprintf("strangers-heap-%s-%d", what.Kind, what.Sources))
	}
	if err := errors.Join(err, <-came); err != nil {
		return err
	}
	if failures, problem := w.fleet.failures(); failures > 0 {
		return fmt.Errorf("%d VMs lost their connections, such as: %w", failures, problem)
	}
	for _, share := range []float64{0.5, 0.99, 1} {
		name := fmt.Sprintf("p%g", 100*share)
		add("commit to applied, "+name+", quiet", "ms", quantile(quiet, share))
		add("commit to applied, "+name+", with strangers", "ms", quantile(loud, share))
		add("commit to applied, "+name+", with strangers to quiet", "ratio", quantile(loud, share)/quantile(quiet, share))
	}
	add("syncer CPU busy", "% of a CPU", cost.busy)
	add("strangers' CPU busy", "% of a CPU", 100*said.CPU.Seconds()/what.Seconds)
	add("strangers a second", "", float64(said.Began)/what.Seconds)
	add("strangers that were late", "", float64(said.Late))
	add("strangers whose connection the syncer closed", "", float64(said.Closed))
	add("strangers that the syncer answered", "", float64(said.Answered))
	add("strangers that could not connect", "", float64(said.Failed))
	return nil
}

// delays is how long every change of a while took to every VM.
func (b *bench) delays(ctx context.Context, w *watched) ([]time.Duration, changeCost, error) {
	w.fleet.record()
	cost, err := w.change(ctx, int(max(1, strangersChanges*b.strangersFor.Seconds())), strangersChanges, rates{})
	delays := w.fleet.takeDelays()
	slices.Sort(delays)
	return delays, cost, err
}

// comeLate has the latecomers come in the middle, and go again.
func (b *bench) comeLate(ctx context.Context, w *watched, late *fleet, add func(name, unit string, value float64)) error {
	if err := pause(ctx, b.strangersFor/2); err != nil {
		return err
	}
	late.start(ctx, w.syncer.address, late.vms)
	defer late.stop()
	if err := late.awaitSynced(ctx, late.vms); err != nil {
		return err
	}
	for i, which := range []string{"of an address that is known", "of the strangers' address"} {
		add("until a VM "+which+" is let in", "s", time.Duration(late.vms[i].synced.Load()-late.began.UnixNano()).Seconds())
	}
	return nil
}

// strangeCertificate is of an authority that nobody knows, in PEM form.
func strangeCertificate() (certificate, key []byte, err error) {
	authority := &credentials{roots: x509.NewCertPool()}
	if err := authority.begin(); err != nil {
		return nil, nil, err
	}
	vm, err := authority.issueVM(0, viewName(0))
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(authority.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vm.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func kindNames() string {
	var names []string
	for _, k := range strangersKinds {
		names = append(names, k.kind)
	}
	return strings.Join(names, ",")
}
