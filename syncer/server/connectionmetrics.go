package server

import "github.com/prometheus/client_golang/prometheus"

// newConnectionFailures counts connections that came to nothing.
func newConnectionFailures(registerer prometheus.Registerer) *prometheus.CounterVec {
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: subsystem, Name: "connection_failures_total",
		Help: "Connections that ended before it was known whose they are, and streams refused on them, by reason: silent (no first message of TLS), protocol (it was none), handshake (such as a certificate that is missing or not trusted), no_stream, or unauthenticated.",
	}, []string{"reason"})
	registerer.MustRegister(failures)
	for _, reason := range []string{failedSilent, failedProtocol, failedHandshake, failedNoStream, failedUnauthenticated} {
		failures.WithLabelValues(reason)
	}
	return failures
}
