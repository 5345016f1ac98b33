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
	notImplemented
	passed
)

// requests counts queries by outcome. The counters are looked up once, because a query has no time to.
var requests = func() (counters [passed + 1]prometheus.Counter) {
	vector := counter("requests_total", "Counter of queries that reached the plugin, by outcome: hit, nodata, nxdomain, servfail, refused, pending (nodata until a virtual IP comes), notimp or passed on.", "outcome")
	for o, label := range []string{hit: "hit", noData: "nodata", nameError: "nxdomain", failed: "servfail", refused: "refused", pending: "pending", notImplemented: "notimp", passed: "passed"} {
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

// rebindRefused counts withheld answers by reason.
var rebindRefused = func() (counters [len(rebindReasons)]prometheus.Counter) {
	vector := counter("rebind_refused_total", "Counter of answers withheld by rebind_protection, by reason: range, cluster_ip, virtual_ip or unreadable.", "reason")
	for reason, label := range rebindReasons {
		if label != "" {
			counters[reason] = vector.WithLabelValues(label)
		}
	}
	return counters
}()
