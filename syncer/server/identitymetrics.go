package server

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/identity"
)

// identityMetrics count who is let in and who is not.
type identityMetrics struct {
	authentications *prometheus.CounterVec // by method and result
	authorizations  *prometheus.CounterVec // by result
	expelled        *prometheus.CounterVec // by reason
	undecided       prometheus.Counter
}

// Values of the label result beside a refusal's reason.
const (
	resultOK        = "ok"
	resultAllowed   = "allowed"
	resultDenied    = "denied"
	resultUndecided = "undecided"
)

func newIdentityMetrics(registerer prometheus.Registerer) identityMetrics {
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: subsystem, Name: name, Help: help}, labels)
		registerer.MustRegister(c)
		return c
	}
	m := identityMetrics{
		authentications: vector("authentications_total", "Watch streams whose VM was to be identified, by method (none is plaintext, or no credential) and result: ok, undecided, or why the VM was refused.", "method", "result"),
		authorizations:  vector("authorizations_total", "Questions whether an identity may watch, by result: allowed, denied or undecided.", "result"),
		expelled:        vector("expelled_total", "Watch streams ended because their VM may not watch any more, by reason.", "reason"),
		undecided: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: subsystem, Name: "rechecks_undecided_total",
			Help: "Times that nobody could tell whether a VM may still watch: its stream went on.",
		}),
	}
	registerer.MustRegister(m.undecided)
	for _, method := range []identity.Method{identity.MethodNone, identity.MethodCertificate, identity.MethodTokenReview, identity.MethodJWKS} {
		m.authentications.WithLabelValues(string(method), resultOK)
	}
	for _, result := range []string{resultAllowed, resultDenied, resultUndecided} {
		m.authorizations.WithLabelValues(result)
	}
	for _, reason := range []identity.Reason{identity.ReasonExpired, identity.ReasonRevoked, identity.ReasonForbidden, identity.ReasonUntrusted} {
		m.expelled.WithLabelValues(string(reason))
	}
	return m
}

// authenticated counts how finding out who a VM is went.
func (m *identityMetrics) authenticated(who watcher, err error) {
	method := who.Method
	if method == "" {
		method = identity.MethodNone
	}
	m.authentications.WithLabelValues(string(method), outcomeOf(err, resultOK)).Inc()
}

// authorized counts what an Authorizer has said.
func (m *identityMetrics) authorized(err error) {
	result := outcomeOf(err, resultAllowed)
	if result != resultAllowed && result != resultUndecided {
		result = resultDenied
	}
	m.authorizations.WithLabelValues(result).Inc()
}

func outcomeOf(err error, good string) string {
	if err == nil {
		return good
	}
	if refusal, isRefusal := errors.AsType[*identity.Refusal](err); isRefusal {
		return string(refusal.Reason)
	}
	return resultUndecided
}
