package manifest

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are always kept, and shown where there is a registerer.
type metrics struct {
	files, objects, errors, healthy prometheus.Gauge
	loads                           prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "meshvm_syncer_manifest_" + name, Help: help})
	}
	m := metrics{
		files:   gauge("files", "Manifest files in the folder."),
		objects: gauge("objects", "Objects in the last good content of the manifest files."),
		errors:  gauge("errors", "Present problems of manifest files and the objects in them."),
		healthy: gauge("healthy", "Whether the folder of manifests can be read: 1 or 0."),
		loads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "meshvm_syncer_manifest_changes_total",
			Help: "Changes of manifest files that were read, good or bad.",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.files, m.objects, m.errors, m.healthy, m.loads} {
		if err := registerer.Register(collector); err != nil {
			return metrics{}, fmt.Errorf("register metrics of manifests: %w", err)
		}
	}
	return m, nil
}
