package kubernetes

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/vip"
)

// metrics are always kept, and shown where there is a registerer. Those of the ledger are the leader's.
type metrics struct {
	leader, unreadable          prometheus.Gauge
	addresses, used, quarantine *prometheus.GaugeVec
	covered                     *prometheus.GaugeVec
	conflicts, exhausted        prometheus.Gauge
	divergent                   prometheus.Gauge
	patches, ledgerWrites       *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	const prefix = "meshvm_syncer_vip_"
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
	}
	perRange := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, []string{"range"})
	}
	m := &metrics{
		leader:     gauge("leader", "Whether this replica gives virtual IPs: 1 or 0."),
		unreadable: gauge("ledger_unreadable", "Whether the ledger cannot be understood, so that no virtual IP is given: 1 or 0."),
		addresses:  perRange("addresses", "Addresses of a range that can be given in all."),
		used:       perRange("used_addresses", "Addresses of a range that a host has."),
		quarantine: perRange("quarantined_addresses", "Addresses of a range that rest until another host may have them."),
		covered:    perRange("range_overlaps", "Networks of the cluster that overlap a range, none of whose addresses are given."),
		conflicts:  gauge("conflicts", "Hosts with an address in a status that is another's."),
		exhausted:  gauge("exhausted_hosts", "Hosts that lack an address because none is free."),
		divergent:  gauge("divergent_hosts", "Hosts whose ServiceEntries have different addresses."),
		patches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "patches_total", Help: "Patches of statuses: applied, stale when the status had changed, or failed.",
		}, []string{"result"}),
		ledgerWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "ledger_writes_total", Help: "Writes of ConfigMaps of the ledger: ok, conflict when somebody else had written, or error.",
		}, []string{"result"}),
	}
	for _, result := range []string{"applied", "stale", "failed"} {
		m.patches.WithLabelValues(result)
	}
	for _, result := range []string{"ok", "conflict", "error"} {
		m.ledgerWrites.WithLabelValues(result)
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{
		m.leader, m.unreadable, m.addresses, m.used, m.quarantine, m.covered, m.conflicts, m.exhausted, m.divergent, m.patches, m.ledgerWrites,
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics of virtual IPs: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) setUsage(usage []vip.Usage) {
	for _, one := range usage {
		text := one.Range.String()
		m.addresses.WithLabelValues(text).Set(float64(one.Addresses))
		m.used.WithLabelValues(text).Set(float64(one.Used))
		m.quarantine.WithLabelValues(text).Set(float64(one.Quarantined))
	}
}

// setProblems counts hosts.
func (m *metrics) setProblems(problems map[vip.Owner][]vip.Problem) {
	hosts := map[vip.Reason]map[string]bool{vip.Conflict: {}, vip.Exhausted: {}, vip.Divergent: {}}
	for _, list := range problems {
		for _, problem := range list {
			if of := hosts[problem.Reason]; of != nil {
				of[problem.Host] = true
			}
		}
	}
	m.conflicts.Set(float64(len(hosts[vip.Conflict])))
	m.exhausted.Set(float64(len(hosts[vip.Exhausted])))
	m.divergent.Set(float64(len(hosts[vip.Divergent])))
}

// resign takes away what only a leader knows.
func (m *metrics) resign() {
	for _, vec := range []*prometheus.GaugeVec{m.addresses, m.used, m.quarantine, m.covered} {
		vec.Reset()
	}
	for _, gauge := range []prometheus.Gauge{m.leader, m.unreadable, m.conflicts, m.exhausted, m.divergent} {
		gauge.Set(0)
	}
}
