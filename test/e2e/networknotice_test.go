//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// What the product promises, and what a busy machine may take on top.
const (
	heartbeatInterval = 5 * time.Second
	// silenceBound is how long a machine believes in a syncer that says nothing.
	silenceBound = 3 * heartbeatInterval
	// keepaliveBound is how long a syncer believes in a machine that says nothing.
	keepaliveBound = 40 * time.Second
	busyMachine    = 10 * time.Second
	// maxStale is what the machines of a mesh are told.
	maxStale = 10 * time.Second
)

// slowly is the interval in which slow things are looked at.
const slowly = 50 * time.Millisecond

// lost waits until the machine knows that it follows nobody. After so long without a word it must.
func (m *mesh) lost(bound time.Duration) {
	m.t.Helper()
	took := eventuallyAt(m.t, slowly, "the machine follows nobody", func() error {
		if connected := mirrorGauge(m.machineMetrics(), "connected"); connected != 0 {
			return fmt.Errorf("connected: got %v, want 0", connected)
		}
		return nil
	})
	m.within("loss of the syncer noticed", took, bound)
}

// within holds how long something took against what is promised.
func (m *mesh) within(what string, took, bound time.Duration) {
	m.t.Helper()
	m.t.Logf("%s after %v", what, took.Round(time.Millisecond))
	if took > bound+busyMachine {
		m.t.Errorf("%s: after %v, want %v, or %v on a busy machine", what, took, bound, bound+busyMachine)
	}
}

// alone waits until a syncer knows that nobody watches.
func (m *mesh) alone(s *meshSyncer) {
	m.t.Helper()
	eventuallyAt(m.t, slowly, "the syncer has no watchers", func() error {
		if watchers := m.watchers(s); watchers != 0 {
			return fmt.Errorf("got %v", watchers)
		}
		return nil
	})
}

// watchers is how many watchers a syncer that runs says it has.
func (m *mesh) watchers(s *meshSyncer) float64 {
	m.t.Helper()
	values, err := s.metrics()
	if err != nil {
		m.t.Fatal(err)
	}
	return values["meshvm_syncer_watchers"]
}

// stale waits until answers are said to be stale, or not to be, and the metric agrees.
func (m *mesh) stale(want bool) {
	m.t.Helper()
	query := new(dns.Msg).SetQuestion(steady, dns.TypeA)
	query.SetEdns0(1232, false)
	var codes []uint16
	if want {
		codes = []uint16{dns.ExtendedErrorCodeStaleAnswer}
	}
	eventuallyAt(m.t, slowly, fmt.Sprintf("answers are stale: %t", want), func() error {
		if age := m.staleness(); (age > maxStale) != want {
			return fmt.Errorf("staleness: got %v", age)
		}
		reply, err := m.machine.send(query)
		if err == nil && (len(reply.Answer) != 1 || !slices.Equal(codesOf(reply), codes)) {
			err = fmt.Errorf("got %v", reply)
		}
		return err
	})
}

// staleness is what the machine says of the age of its registry.
func (m *mesh) staleness() time.Duration {
	m.t.Helper()
	return time.Duration(mirrorGauge(m.machineMetrics(), "staleness_seconds") * float64(time.Second))
}

// follows is the metrics of the one syncer that has a watcher.
func (m *mesh) follows() (metrics map[string]float64, err error) {
	for _, s := range m.syncers {
		values, err := s.metrics()
		if err != nil {
			return nil, err
		}
		switch watchers := values["meshvm_syncer_watchers"]; {
		case watchers == 0:
		case watchers == 1 && metrics == nil:
			metrics = values
		default:
			return nil, fmt.Errorf("%s has %v watchers, and it is not alone with them", s.host.ip, watchers)
		}
	}
	if metrics == nil {
		return nil, errors.New("no syncer has a watcher")
	}
	return metrics, nil
}

// mirrorGauge is a gauge of the one mirror that there is. It is -1 where it is missing.
func mirrorGauge(values map[string]float64, name string) float64 {
	for sample, value := range values {
		if strings.HasPrefix(sample, "coredns_meshvm_"+name+"{") {
			return value
		}
	}
	return -1
}

func (m *mesh) machineMetrics() (values map[string]float64) {
	m.t.Helper()
	eventuallyAt(m.t, slowly, "metrics of the machine", func() error {
		body, _, err := m.machine.get(m.machine.metrics, "/metrics")
		values = numbersOn(body)
		return err
	})
	return values
}
