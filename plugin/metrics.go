package meshvm

import (
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// outcome is what became of a query.
type outcome uint8

const (
	hit outcome = iota
	noData
	nameError
	failed
	refused
	pending
	passed
)

// requests counts queries by outcome. The counters are looked up once, because a query has no time to.
var requests = func() (counters [passed + 1]prometheus.Counter) {
	vector := counter("requests_total", "Counter of queries that reached the plugin, by outcome: hit, nodata, nxdomain, servfail, refused, pending (nodata until a virtual IP comes) or passed on.", "outcome")
	for o, label := range []string{hit: "hit", noData: "nodata", nameError: "nxdomain", failed: "servfail", refused: "refused", pending: "pending", passed: "passed"} {
		counters[o] = vector.WithLabelValues(label)
	}
	return counters
}()

var staleAnswers = promauto.NewCounter(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: pluginName,
	Name:      "stale_answers_total",
	Help:      "Counter of answers given while the registry was older than max_stale.",
})
