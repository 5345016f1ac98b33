package verdict

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/identity"
)

// Values of the label result beside the two that say what the verdict is.
const (
	resultKept  = "kept"
	resultError = "error"
)

// Metrics count verdicts that were asked for. They are always kept, and shown where there is a registerer.
type Metrics struct {
	asked    *prometheus.CounterVec
	good, no string
}

// NewMetrics are a counter with the label result: good or no in the words that are given, error (nobody could tell), or kept (nobody
// could tell, and the last good verdict went on). A nil registerer shows them nowhere.
func NewMetrics(registerer prometheus.Registerer, options prometheus.CounterOpts, good, no string) (*Metrics, error) {
	m := &Metrics{asked: prometheus.NewCounterVec(options, []string{"result"}), good: good, no: no}
	for _, result := range []string{good, no, resultKept, resultError} {
		m.With(result)
	}
	if registerer == nil {
		return m, nil
	}
	if err := registerer.Register(m.asked); err != nil {
		return nil, fmt.Errorf("register metric %s: %w", options.Name, err)
	}
	return m, nil
}

// With is the counter of a result.
func (m *Metrics) With(result string) prometheus.Counter { return m.asked.WithLabelValues(result) }

// Count counts what Cache.Get returned, unless it was remembered.
func (m *Metrics) Count(outcome Outcome, err error) {
	_, isRefusal := errors.AsType[*identity.Refusal](err)
	result := resultError
	switch {
	case outcome == Remembered:
		return
	case outcome == Kept:
		result = resultKept
	case err == nil:
		result = m.good
	case isRefusal:
		result = m.no
	}
	m.With(result).Inc()
}
