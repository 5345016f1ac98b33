package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/test/programs"
)

// TestLabels reads the plugin's metadata where operators do: in the log.
func TestLabels(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", documents(town(), namespace("ours"), service("short.ours", "10.96.0.30")))
	_, syncer, _ := syncerOn(t, folder)
	const format = `log . "{type} {name} {rcode} [{/meshvm/source} {/meshvm/namespace} {/meshvm/name} {/meshvm/kind} {/meshvm/stale}]"`
	m := newChain(t, syncer, "metadata\n"+format+"\nautopath @meshvm\nmeshvm cluster.local 10.96.0.0/16 {\n"+follow+"\nshort_names\n}\nforward . "+programs.Upstream(t))
	m.isReady()
	tests := map[string]string{ // what is asked, and the end of the line
		"reviews.prod.svc.cluster.local. A":              "NOERROR [Kubernetes prod reviews cluster-ip false]",
		"Reviews.PROD.svc.cluster.local. A":              "NOERROR [Kubernetes prod reviews cluster-ip false]",
		"reviews.prod.svc.cluster.local. MX":             "NOERROR [Kubernetes prod reviews cluster-ip false]",
		"_http._tcp.reviews.prod.svc.cluster.local. SRV": "NOERROR [Kubernetes prod reviews cluster-ip false]",
		"db.prod.svc.cluster.local. A":                   "NOERROR [Kubernetes prod db headless false]",
		"db-0.db.prod.svc.cluster.local. A":              "NOERROR [Kubernetes prod db endpoint false]",
		"www.prod.svc.cluster.local. A":                  "NOERROR [Kubernetes prod www external-name false]",
		"short.ours. A":                                  "NOERROR [Kubernetes ours short cluster-ip false]",
		"10.0.96.10.in-addr.arpa. PTR":                   "NOERROR [Kubernetes prod reviews cluster-ip false]",
		"1.0.244.10.in-addr.arpa. PTR":                   "NOERROR [Kubernetes prod db endpoint false]",
		"api.shop.example.com. A":                        "NOERROR [ServiceEntry prod api literal false]",
		"any.wild.shop.example.com. A":                   "NOERROR [ServiceEntry prod wild literal false]",
		"_tls._tcp.api.shop.example.com. SRV":            "NOERROR [ServiceEntry prod api literal false]",
		"nope.prod.svc.cluster.local. A":                 "NXDOMAIN [- - - - false]",
		"cluster.local. SOA":                             "NOERROR [- - - - false]",
		"250.0.96.10.in-addr.arpa. PTR":                  "NXDOMAIN [- - - - false]",
		"www.example.org. A":                             "NOERROR [- - - - -]",
		"1.2.0.192.in-addr.arpa. PTR":                    "NXDOMAIN [- - - - -]",
		"nobody.invalid. A":                              "NXDOMAIN [- - - - -]",
		// The name is the client's, not one that autopath makes of it.
		"reviews.prod.vm.svc.cluster.local. A": "NOERROR [- - - - false]",
	}
	for question, want := range tests {
		t.Run(question, func(t *testing.T) {
			m.reply(t, client{}, question)
			name, qtype, _ := strings.Cut(question, " ")
			m.coredns.WaitFor(t, fmt.Sprintf("[INFO] %s %s %s\n", qtype, strings.ToLower(name), want))
		})
	}
}
