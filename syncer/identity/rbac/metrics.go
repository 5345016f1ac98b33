package rbac

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/verdict"
)

// Values of the label result.
const (
	resultAllowed = "allowed"
	resultDenied  = "denied"
	resultKept    = "kept"
	resultError   = "error"
)

// metrics are always kept, and shown where there is a registerer.
type metrics struct{ reviews *prometheus.CounterVec }

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshvm_syncer_access_reviews_total",
		Help: "Reviews of the access of VMs that the API server was asked for, by result: allowed, denied, error (nobody could tell) or kept (nobody could tell, and the last yes went on).",
	}, []string{"result"})}
	for _, result := range []string{resultAllowed, resultDenied, resultKept, resultError} {
		m.reviews.WithLabelValues(result)
	}
	if registerer == nil {
		return m, nil
	}
	if err := registerer.Register(m.reviews); err != nil {
		return nil, fmt.Errorf("register metrics of access reviews: %w", err)
	}
	return m, nil
}

// count counts one that was asked for.
func (m *metrics) count(outcome verdict.Outcome, err error) {
	_, isRefusal := errors.AsType[*identity.Refusal](err)
	switch {
	case outcome == verdict.Remembered:
	case outcome == verdict.Kept:
		m.reviews.WithLabelValues(resultKept).Inc()
	case err == nil:
		m.reviews.WithLabelValues(resultAllowed).Inc()
	case isRefusal:
		m.reviews.WithLabelValues(resultDenied).Inc()
	default:
		m.reviews.WithLabelValues(resultError).Inc()
	}
}
