package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads at scrape time what need not be counted along the way.
type collector struct {
	server *Server

	build, synced, age, resources, revision, logBytes, logRevisions *prometheus.Desc
	watchers, views, lag, lagging, lagSeconds                       *prometheus.Desc
	syncing, waiting, connections, ready, certificate               *prometheus.Desc
}

func newCollector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(subsystem, "", name), help, labels, nil)
	}
	return &collector{
		server:       s,
		ready:        desc("ready", "Whether VMs are served (1) or not (0), as /readyz says."),
		certificate:  desc("tls_certificate_expiry_timestamp_seconds", "When the certificate that VMs see ends, in Unix time."),
		build:        desc("build_info", "The version that runs; always 1.", "version"),
		synced:       desc("source_synced", "Whether the source has put in everything that exists.", "source"),
		age:          desc("source_age_seconds", "For how long the source's picture has not been known to be current.", "source"),
		resources:    desc("registry_resources", "Resources in the registry, whoever sees them."),
		revision:     desc("registry_revision", "The registry's latest revision."),
		logBytes:     desc("registry_log_bytes", "Memory held by the change log."),
		logRevisions: desc("registry_log_revisions", "Revisions that the change log reaches back."),
		watchers:     desc("watchers", "VMs that watch."),
		views:        desc("views", "Namespaces whose view is watched."),
		lag:          desc("watcher_lag_revisions_max", "The most revisions that any VM is behind its view, by its own word."),
		lagSeconds:   desc("watcher_lag_seconds_max", "For how long some VM has not said that it applied the oldest change that it lacks."),
		lagging:      desc("watchers_lagging", "VMs that have not said within a heartbeat interval that they applied a change."),
		syncing:      desc("admission_syncing", "Watch streams that are being sent a whole view or compared with it now."),
		waiting:      desc("admission_waiting", "Watch streams that wait for that."),
		connections:  desc("connections", "Connections of VMs that are open, with an identity or without."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.build, c.synced, c.age, c.resources, c.revision, c.logBytes, c.logRevisions, c.watchers, c.views, c.lag, c.lagSeconds, c.lagging, c.syncing, c.waiting, c.connections,
		c.ready, c.certificate,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.build, 1, c.server.opts.Version)
	ready := 0.0
	if c.server.notReady() == "" {
		ready = 1
	}
	gauge(c.ready, ready)
	if expiry := c.server.certificateExpiry(); !expiry.IsZero() {
		gauge(c.certificate, float64(expiry.Unix()))
	}
	now := c.server.opts.Now()
	for _, source := range c.server.registry.Sources() {
		synced := 0.0
		if source.Synced {
			synced = 1
		}
		gauge(c.synced, synced, source.Name)
		gauge(c.age, max(0, now.Sub(source.CurrentAt).Seconds()), source.Name)
	}
	stats := c.server.registry.Stats()
	gauge(c.resources, float64(stats.Resources))
	gauge(c.revision, float64(stats.Revision))
	gauge(c.logBytes, float64(stats.LogBytes))
	gauge(c.logRevisions, float64(stats.LogRevisions))

	watchers := c.server.Watchers()
	namespaces := map[string]bool{}
	var revisions uint64
	var longest time.Duration
	lagging := 0
	for _, w := range watchers {
		namespaces[w.Namespace] = true
		revisions, longest = max(revisions, w.Lag), max(longest, w.LagFor)
		if w.LagFor > c.server.opts.HeartbeatInterval {
			lagging++
		}
	}
	gauge(c.watchers, float64(len(watchers)))
	gauge(c.views, float64(len(namespaces)))
	gauge(c.lag, float64(revisions))
	gauge(c.lagSeconds, longest.Seconds())
	gauge(c.lagging, float64(lagging))
	syncing, waiting := c.server.admission.load()
	gauge(c.syncing, float64(syncing))
	gauge(c.waiting, float64(waiting))
	if open := c.server.accepted.Load(); open != nil {
		gauge(c.connections, float64(open.count()))
	}
}

// certificateExpiry is when the certificate that VMs see ends; zero in plaintext.
func (s *Server) certificateExpiry() time.Time {
	if s.certs == nil {
		return time.Time{}
	}
	return s.certs.expiry()
}
