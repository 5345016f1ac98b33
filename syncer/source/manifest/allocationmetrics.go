package manifest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/vip"
)

// allocationMetrics have the names of those of the allocator for a cluster: there is one of them in a
// syncer.
type allocationMetrics struct {
	addresses, used, quarantined    *prometheus.GaugeVec
	conflicts, exhausted, divergent prometheus.Gauge
	writes                          *prometheus.CounterVec
}

func newAllocationMetrics(registerer prometheus.Registerer) (allocationMetrics, error) {
	const prefix = "meshvm_syncer_vip_"
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
	}
	perRange := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, []string{"range"})
	}
	m := allocationMetrics{
		addresses:   perRange("addresses", "Addresses of a range that can be given in all."),
		used:        perRange("used_addresses", "Addresses of a range that a host has."),
		quarantined: perRange("quarantined_addresses", "Addresses of a range that rest until another host may have them."),
		conflicts:   gauge("conflicts", "Hosts with an address in a status that is another's."),
		exhausted:   gauge("exhausted_hosts", "Hosts that lack an address because none is free."),
		divergent:   gauge("divergent_hosts", "Hosts whose ServiceEntries have different addresses."),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "ledger_writes_total", Help: "Writes of the ledger: ok or error.",
		}, []string{"result"}),
	}
	for _, result := range []string{"ok", "error"} {
		m.writes.WithLabelValues(result)
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.addresses, m.used, m.quarantined, m.conflicts, m.exhausted, m.divergent, m.writes} {
		if err := registerer.Register(collector); err != nil {
			return allocationMetrics{}, fmt.Errorf("register metrics of virtual IPs: %w", err)
		}
	}
	return m, nil
}

// set says how much of each range is used, and which hosts have problems.
func (m allocationMetrics) set(usage []vip.Usage, hosts map[vip.Reason]map[string]bool) {
	for _, one := range usage {
		text := one.Range.String()
		m.addresses.WithLabelValues(text).Set(float64(one.Addresses))
		m.used.WithLabelValues(text).Set(float64(one.Used))
		m.quarantined.WithLabelValues(text).Set(float64(one.Quarantined))
	}
	m.conflicts.Set(float64(len(hosts[vip.Conflict])))
	m.exhausted.Set(float64(len(hosts[vip.Exhausted])))
	m.divergent.Set(float64(len(hosts[vip.Divergent])))
}

// saved counts a write of the ledger.
func (m allocationMetrics) saved(err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.writes.WithLabelValues(result).Inc()
}
