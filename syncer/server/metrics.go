package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// subsystem starts the name of every metric of the syncer.
const subsystem = "meshvm_syncer"

// metrics counts what the server does.
type metrics struct {
	streams      *prometheus.CounterVec // by code
	syncs        *prometheus.CounterVec // by mode
	compacted    prometheus.Counter
	compareBytes prometheus.Counter
	frames       prometheus.Counter
	bytes        prometheus.Counter
	heartbeats   prometheus.Counter

	cacheHits, cacheMisses prometheus.Counter

	sendTimeouts prometheus.Counter
	panics       prometheus.Counter
	reloadErrors prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: subsystem, Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: subsystem, Name: name, Help: help}, []string{label})
		registerer.MustRegister(c)
		return c
	}
	m := &metrics{
		streams:      vector("streams_total", "Watch streams that ended, by gRPC status code.", "code"),
		syncs:        vector("syncs_total", "Watch streams brought up to date, by mode: full, compare or resume.", "mode"),
		compacted:    counter("compacted_total", "Full syncs in the middle of a stream, because the change log no longer reached back to where it was."),
		compareBytes: counter("compare_bytes_total", "Bytes of digests exchanged to find out what differs, both ways, before TLS."),
		frames:       counter("frames_sent_total", "Delta frames sent."),
		bytes:        counter("frame_bytes_sent_total", "Bytes of delta frames sent, before TLS."),
		heartbeats:   counter("heartbeats_sent_total", "Heartbeats sent."),
		cacheHits:    counter("frame_cache_hits_total", "Deltas that were encoded already when a stream needed them."),
		cacheMisses:  counter("frame_cache_misses_total", "Deltas that were encoded."),
		sendTimeouts: counter("send_timeouts_total", "Watch streams ended because the VM read too slowly."),
		panics:       counter("panics_total", "Panics that ended a stream or an HTTP request instead of the process."),
		reloadErrors: counter("tls_reload_errors_total", "Changes of the TLS files that could not be used; the last good ones stay in use."),
	}
	// Present from the start, so that a rate over the first of them is right.
	for _, code := range []codes.Code{codes.OK, codes.Canceled, codes.InvalidArgument, codes.PermissionDenied, codes.Unavailable, codes.Aborted, codes.Internal} {
		m.streams.WithLabelValues(code.String())
	}
	for _, mode := range []string{modeFull, modeCompare, modeResume} {
		m.syncs.WithLabelValues(mode)
	}
	return m
}

// Values of the label mode.
const (
	modeFull    = "full"
	modeCompare = "compare"
	modeResume  = "resume"
)

// collector reads at scrape time what need not be counted along the way.
type collector struct {
	server *Server

	build, synced, age, resources, revision, logBytes, logRevisions *prometheus.Desc
	watchers, views, lag                                            *prometheus.Desc
}

func newCollector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(subsystem, "", name), help, labels, nil)
	}
	return &collector{
		server:       s,
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
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.build, c.synced, c.age, c.resources, c.revision, c.logBytes, c.logRevisions, c.watchers, c.views, c.lag,
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
	var lag uint64
	for _, w := range watchers {
		namespaces[w.Namespace] = true
		lag = max(lag, w.Lag)
	}
	gauge(c.watchers, float64(len(watchers)))
	gauge(c.views, float64(len(namespaces)))
	gauge(c.lag, float64(lag))
}
