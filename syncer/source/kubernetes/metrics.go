package kubernetes

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are always kept, and shown where there is a registerer.
type metrics struct {
	healthy, problems prometheus.Gauge
	objects           *prometheus.GaugeVec
	failures          *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (metrics, error) {
	const prefix = "meshvm_syncer_kubernetes_"
	m := metrics{
		healthy: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "healthy", Help: "Whether the API server can be reached and serves every kind that is followed: 1 or 0.",
		}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "problems", Help: "Present problems of objects in the API server.",
		}),
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "objects", Help: "Objects that are followed.",
		}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "request_failures_total", Help: "Lists and watches that the API server did not serve.",
		}, []string{"resource", "verb"}),
	}
	// Present from the start, so that a rate over the first of them is right.
	for _, resource := range []string{"services", "namespaces", "endpointslices.discovery.k8s.io"} {
		for _, verb := range []string{"list", "watch"} {
			m.failures.WithLabelValues(resource, verb)
		}
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.healthy, m.problems, m.objects, m.failures} {
		if err := registerer.Register(collector); err != nil {
			return metrics{}, fmt.Errorf("register metrics of Kubernetes: %w", err)
		}
	}
	return m, nil
}
