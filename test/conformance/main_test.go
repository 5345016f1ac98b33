// Package conformance holds the plugin against what it must agree with: stock CoreDNS with its kubernetes
// plugin, on the same cluster, question by question.
//
// A test has a cluster, in which it creates objects through the real API server, and a pair of resolvers
// that both follow that cluster: theirs is stock CoreDNS, ours the plugin behind the real syncer. The pair
// says when both are in step with what was written. differential_test.go makes the objects up and compares
// every answer; every difference that is meant has a rule with a reason in rules_test.go.
// loop_test.go asks what CoreDNS cannot be asked.
// specification_test.go holds both against the Kubernetes DNS-Based Service Discovery specification.
package conformance

import (
	"os"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	// The plugins of both sides.
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/kubernetes"

	_ "github.com/meshvm/meshvm/plugin"
	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// plane is the control plane of all tests here.
var plane = controlplane.NewShared()

func TestMain(m *testing.M) {
	if err := dnsserver.SetDirectives([]string{"bind", reachedDirective, "kubernetes", "meshvm", outsideDirective}); err != nil {
		panic(err)
	}
	os.Exit(plane.Main(programsMain{m}))
}

// TestConformance is one test, because CoreDNS's kubernetes plugin can be set up only once in a process: it
// sets a logger for all of it.
func TestConformance(t *testing.T) {
	p := newPair(t, newCluster(t))
	t.Run("specification", func(t *testing.T) { testSpecification(t, p.in(t)) })
	t.Run("loop across zones", func(t *testing.T) { testLoopAcrossZones(t, p.in(t)) })
	t.Run("same as CoreDNS", func(t *testing.T) { testSameAsCoreDNS(t, p.in(t)) })
}

// programsMain runs the tests with the syncer built.
type programsMain struct{ m *testing.M }

func (p programsMain) Run() int { return programs.Main(p.m, programs.Syncer) }
