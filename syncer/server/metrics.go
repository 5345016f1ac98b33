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
	admissions   *prometheus.CounterVec // by result
	refused      *prometheus.CounterVec // by bound
	failures     *prometheus.CounterVec // by reason
	compacted    prometheus.Counter
	rescoped     prometheus.Counter
	compareBytes prometheus.Counter
	frames       *prometheus.CounterVec // by mode
	bytes        *prometheus.CounterVec // by mode
	heartbeats   prometheus.Counter
	acked        prometheus.Histogram

	cacheHits, cacheMisses prometheus.Counter

	identityMetrics

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
		admissions:   vector("admissions_total", "Watch streams that had to be sent a whole view or compared with it, by result: at_once, waited, turned_away (the queue was full), timed_out or left.", "result"),
		refused:      vector("refused_total", "Connections and watch streams refused because there were too many, by the bound: connections, address or identity; stranger (too many connections from there came to nothing) or http (connections to the HTTP port).", "bound"),
		compacted:    counter("compacted_total", "Watch streams that fell off the change log, because their VMs read too slowly: they were compared anew or, where the view is small, sent all of it."),
		rescoped:     counter("rescoped_total", "Watch streams ended because the Sidecar of their VM says something else: they were compared anew."),
		compareBytes: counter("compare_bytes_total", "Bytes of digests exchanged to find out what differs, both ways, before TLS."),
		frames:       vector("frames_sent_total", "Delta frames sent, by what they were for: full, compare, or change.", "mode"),
		bytes:        vector("frame_bytes_sent_total", "Bytes of delta frames sent, before TLS, by what they were for: full, compare, or change.", "mode"),
		heartbeats:   counter("heartbeats_sent_total", "Heartbeats sent."),
		cacheHits:    counter("frame_cache_hits_total", "Deltas that were encoded already when a stream needed them."),
		cacheMisses:  counter("frame_cache_misses_total", "Deltas that were encoded."),
		sendTimeouts: counter("send_timeouts_total", "Watch streams ended because the VM read too slowly."),
		panics:       counter("panics_total", "Panics that ended a stream or an HTTP request instead of the process."),
		reloadErrors: counter("tls_reload_errors_total", "Changes of the TLS files that could not be used; the last good ones stay in use."),
	}
	// As CoreDNS's programming duration: 1 ms to 65 s.
	m.acked = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: subsystem,
		Name:      "watcher_lag_seconds",
		Help:      "How long after a change was sent off a VM said that it had applied it. VMs say so at most ten times a second.",
		Buckets:   prometheus.ExponentialBuckets(0.001, 2, 17),
	})
	registerer.MustRegister(m.acked)
	m.failures = newConnectionFailures(registerer)
	m.identityMetrics = newIdentityMetrics(registerer)
	// Present from the start, so that a rate over the first of them is right.
	for _, code := range []codes.Code{codes.OK, codes.Canceled, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unavailable, codes.Aborted, codes.Internal} {
		m.streams.WithLabelValues(code.String())
	}
	for _, mode := range []string{modeFull, modeCompare, modeResume} {
		m.syncs.WithLabelValues(mode)
	}
	for _, mode := range []string{modeFull, modeCompare, modeChange} {
		m.frames.WithLabelValues(mode)
		m.bytes.WithLabelValues(mode)
	}
	for _, result := range []string{admittedAtOnce, admittedLater, turnedAway, waitedInVain, leftTheQueue} {
		m.admissions.WithLabelValues(result)
	}
	for _, bound := range []string{refusedConnections, refusedAddress, refusedIdentity, refusedStranger, refusedHTTP} {
		m.refused.WithLabelValues(bound)
	}
	return m
}

// Values of the label result.
const (
	admittedAtOnce = "at_once"
	admittedLater  = "waited"
	turnedAway     = "turned_away"
	waitedInVain   = "timed_out"
	leftTheQueue   = "left"
)

// Values of the label bound.
const (
	refusedConnections = "connections"
	refusedAddress     = "address"
	refusedIdentity    = "identity"
	refusedStranger    = "stranger"
	refusedHTTP        = "http"
)

// Values of the label mode. A change is what a stream is sent that has been brought up to date.
const (
	modeFull    = "full"
	modeCompare = "compare"
	modeResume  = "resume"
	modeChange  = "change"
)
