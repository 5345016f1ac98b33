package e2e

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// hostileManifests have in every place that takes a text one that clears the screen and forges a line, and lists that
// would fill a machine.
func hostileManifests() map[string]string {
	const evil = `"a\x1b[2J\nlevel=ERROR msg=forged\u009b2J\u202e\r"`
	host := strings.Builder{}
	address := strings.Builder{}
	for i := range 20_000 {
		host.WriteString("h" + strings.Repeat("x", 20) + string(rune('a'+i%26)) + strings.Repeat("y", i%7) + ".example.com, ")
		address.WriteString("10.1.2.3, ")
	}
	return map[string]string{
		"names.yaml": strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: EVIL, namespace: prod}
spec: {clusterIP: 10.96.0.3}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: EVIL}
spec: {clusterIP: 10.96.0.3}
---
apiVersion: v1
kind: Namespace
metadata: {name: EVIL}
---
apiVersion: EVIL
kind: EVIL
metadata: {name: b}
`, "EVIL", evil),
		"texts.yaml": strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: c, namespace: prod, labels: {EVIL: EVIL}, annotations: {EVIL: EVIL, networking.istio.io/exportTo: EVIL}}
spec: {clusterIP: EVIL, externalName: EVIL, ports: [{name: EVIL, port: 80, protocol: EVIL}]}
---
apiVersion: v1
kind: Service
metadata: {name: d, namespace: prod, labels: {EVIL: EVIL}, annotations: {EVIL: EVIL}}
spec: {clusterIP: 10.96.0.4, ports: [{name: EVIL, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: d-1, namespace: prod, labels: {kubernetes.io/service-name: EVIL}}
addressType: EVIL
endpoints: [{addresses: [EVIL], hostname: EVIL, zone: EVIL, nodeName: EVIL}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: prod}
spec: {hosts: [EVIL, e.example.com], addresses: [EVIL, 192.0.2.1], ports: [{name: EVIL, number: 80, protocol: EVIL}], exportTo: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: f, namespace: prod, labels: {EVIL: EVIL}}
spec: {address: EVIL, labels: {EVIL: EVIL}, ports: {EVIL: 80}}
`, "EVIL", evil),
		"large.yaml": `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: large, namespace: prod}
spec: {hosts: [` + host.String() + `], addresses: [` + address.String() + `]}
`,
		"broken\x1b[2J\n.yaml": evil + ": {",
	}
}

// TestHostileObjects: the real programs serve what is sound beside objects that would do harm, and what they log is
// lines that can be printed.
func TestHostileObjects(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			folder := t.TempDir()
			write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
			for name, text := range hostileManifests() {
				write(t, folder, name, text)
			}
			address, http := programs.FreeAddress(t), programs.FreeAddress(t)
			syncer := programs.Start(t, programs.Syncer, "--manifests", folder, "--insecure", "--listen", address, "--http-listen", http, "--log-level", "debug", "--log-format", format)
			m := newMachine(t, []string{address})
			m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
			m.answers("d.prod.svc.cluster.local.", dns.TypeA, "10.96.0.4")
			m.answers("e.example.com.", dns.TypeA, "192.0.2.1")
			write(t, folder, "reviews.yaml", reviewsAt("10.96.0.2"))
			m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2")
			if _, err := m.exchange("a\\027[2J\\010.prod.svc.cluster.local.", dns.TypeA); err != nil {
				t.Error(err)
			}
			syncer.WaitFor(t, "large")

			printable(t, "CoreDNS's log", m.coredns.Output())
			for line := range strings.Lines(syncer.Output()) {
				if format == "text" {
					printable(t, "the syncer's log", line)
				} else if !json.Valid([]byte(line)) {
					t.Errorf("the syncer's log: got %q, want JSON", line)
				}
				if len(line) > 4096 {
					t.Errorf("the syncer's log: got a line of %d bytes, %.200q...", len(line), line)
				}
			}
			if got := strings.Count(syncer.Output(), "\n"); got > 200 {
				t.Errorf("the syncer's log: got %d lines, want no flood", got)
			}
			for _, path := range []string{"/debug/registry?name=" + url.QueryEscape("a\x1b[2J\n"), "/debug/registry?" + url.QueryEscape("\x1b[2J") + "=1", "/debug/vips?state=" + url.QueryEscape("\x1b[2J"), "/" + url.PathEscape("\x1b[2J")} {
				page, _, err := get("http://" + http + path)
				if err != nil {
					t.Fatal(err)
				}
				printable(t, path, page)
			}
		})
	}
}

// printable fails the test where a text holds what a terminal would act on.
func printable(t *testing.T, where, text string) {
	t.Helper()
	acts := func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }
	if i := strings.IndexFunc(text, acts); i >= 0 {
		t.Errorf("%s: got %q, want what can be printed", where, text[max(0, i-60):min(len(text), i+20)])
	}
	if strings.Contains(text, "\nlevel=ERROR msg=forged") {
		t.Errorf("%s: got a forged line", where)
	}
}
