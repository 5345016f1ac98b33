package jwks

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are always kept, and shown where there is a registerer.
type metrics struct {
	fetched, keys prometheus.Gauge
	failures      prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	const prefix = "meshvm_syncer_jwks_"
	m := &metrics{
		fetched: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "fetch_timestamp_seconds", Help: "When the keys that tokens are verified with were fetched last, as a Unix time; 0 is never. Their age is time() less this.",
		}),
		keys: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "keys", Help: "Keys that tokens are verified with.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "fetch_errors_total", Help: "Times that the keys could not be fetched or read; the last good ones stay in use.",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.fetched, m.keys, m.failures} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics of token keys: %w", err)
		}
	}
	return m, nil
}
