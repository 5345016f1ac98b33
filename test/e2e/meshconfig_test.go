package e2e

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// meshConfig is Istio's mesh configuration as a manifest.
func meshConfig(lines ...string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " + strings.Join(lines, "\n    ") + "\n"
}

// TestMeshConfiguration: who sees names, and which VMs are taken, is as Istio's mesh configuration says, and
// follows it.
func TestMeshConfiguration(t *testing.T) {
	mesh := newAuthority(t)
	mesh.server("server")
	mesh.client("prod", "prod")
	mesh.client("dev", "dev")
	folder := t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	write(t, folder, "mesh.yaml", meshConfig("defaultServiceExportTo: ['.']", "trustDomain: mesh.example", "trustDomainAliases: [cluster.local]"))
	_, address := mesh.syncer(folder, "server", "--istio-mesh-config")
	const reviews = "reviews.prod.svc.cluster.local."

	prod, dev := newMachine(t, []string{address}, mesh.lines("prod")...), newMachine(t, []string{address}, mesh.lines("dev")...)
	prod.answers(reviews, dns.TypeA, "10.96.0.1")
	dev.answers(reviews, dns.TypeA, "NXDOMAIN")

	write(t, folder, "mesh.yaml", meshConfig("defaultServiceExportTo: ['*']", "trustDomain: cluster.local"))
	dev.answers(reviews, dns.TypeA, "10.96.0.1")

	// The VMs' certificates are of a mesh that is no more. They answer what they know and learn nothing new.
	write(t, folder, "mesh.yaml", meshConfig("trustDomain: mesh.example"))
	for _, m := range []*machine{prod, dev} {
		m.coredns.WaitFor(t, `is of trust domain \"cluster.local\": the mesh takes mesh.example`)
	}
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.2"))
	stranger := newMachine(t, []string{address}, mesh.lines("dev")...)
	stranger.coredns.WaitFor(t, "cannot follow syncer")
	stranger.answersNow(reviews, dns.TypeA, "SERVFAIL")
	prod.answersNow(reviews, dns.TypeA, "10.96.0.1")
}
