package meshvm

import (
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
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
	// stale counts in place of the first three while the registry is older than max_stale.
	stale
)

// requestTypes are the values of the label type: what programs ask for. Every other type is "other", lest whoever asks
// decides how many series there are.
var requestTypes = [...]string{"A", "AAAA", "PTR", "SRV", "CNAME", "TXT", "MX", "NS", "SOA", "HTTPS", "SVCB", "ANY", "other"}

// requestType is the place of a type among requestTypes.
func requestType(qtype uint16) int {
	switch qtype {
	case dns.TypeA:
		return 0
	case dns.TypeAAAA:
		return 1
	case dns.TypePTR:
		return 2
	case dns.TypeSRV:
		return 3
	case dns.TypeCNAME:
		return 4
	case dns.TypeTXT:
		return 5
	case dns.TypeMX:
		return 6
	case dns.TypeNS:
		return 7
	case dns.TypeSOA:
		return 8
	case dns.TypeHTTPS:
		return 9
	case dns.TypeSVCB:
		return 10
	case dns.TypeANY:
		return 11
	}
	return len(requestTypes) - 1
}

// requests counts queries by type and outcome. The counters are looked up once, because a query has no time to.
var requests = func() (counters [len(requestTypes)][stale + 1]prometheus.Counter) {
	vector := counter("requests_total", "Counter of queries that reached the plugin, by type and outcome: hit, nodata, nxdomain, stale (one of these, from a registry older than max_stale), servfail, refused, pending (nodata until a virtual IP comes), notimp or passed on.", "outcome", "type")
	for o, outcome := range []string{hit: "hit", noData: "nodata", nameError: "nxdomain", failed: "servfail", refused: "refused", pending: "pending", notImplemented: "notimp", passed: "passed", stale: "stale"} {
		for i, kind := range requestTypes {
			counters[i][o] = vector.WithLabelValues(outcome, kind)
		}
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
