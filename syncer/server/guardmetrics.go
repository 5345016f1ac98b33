package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/registry"
)

// guardCollector reads at scrape time what the guards hold back.
type guardCollector struct {
	registry *registry.Registry

	held, holds, released *prometheus.Desc
}

func newGuardCollector(r *registry.Registry) *guardCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(subsystem, "guard", name), help, labels, nil)
	}
	return &guardCollector{
		registry: r,
		held:     desc("held_resources", "Resources that are gone for their source, and that the shrink guard keeps for now.", "source", "kind"),
		holds:    desc("holds_total", "Times that the shrink guard began to hold back removals of a kind.", "source"),
		released: desc("released_resources_total", "Resources that the shrink guard kept and does no longer, by reason: returned, replaced, expired or operator.", "source", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (c *guardCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.held, c.holds, c.released} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *guardCollector) Collect(ch chan<- prometheus.Metric) {
	for _, status := range c.registry.GuardStatus() {
		ch <- prometheus.MustNewConstMetric(c.holds, prometheus.CounterValue, float64(status.Holds), status.Source)
		for reason, resources := range status.Released {
			ch <- prometheus.MustNewConstMetric(c.released, prometheus.CounterValue, float64(resources), status.Source, string(reason))
		}
		for _, kind := range status.Kinds {
			ch <- prometheus.MustNewConstMetric(c.held, prometheus.GaugeValue, float64(kind.Held), status.Source, kind.Kind)
		}
	}
}
