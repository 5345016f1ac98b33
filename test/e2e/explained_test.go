package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/syncer/server/explain"
	"github.com/meshvm/meshvm/test/programs"
)

// explainedMesh has every kind of name, with ports of every kind.
const explainedMesh = `
apiVersion: v1
kind: Namespace
metadata: {name: empty}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec:
  clusterIPs: [10.96.0.1, "fd00:96::1"]
  ports: [{name: http, port: 80}, {name: https, port: 443}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: address, namespace: prod}
spec: {type: ExternalName, externalName: 192.0.2.1}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: prod}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 3306}, {name: metrics, port: 9090}]
endpoints: [{addresses: [10.1.0.1], hostname: db-0}, {addresses: [10.1.0.2]}, {addresses: [10.1.0.3], conditions: {ready: false}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-2, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
ports: [{name: sql, port: 3306}, {name: any}]
endpoints: [{addresses: ["fd00:1::1"], hostname: db-0}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-3, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.9]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: prod}
spec:
  hosts: [api.example.com, "*.example.com", api.cluster.local, "*.wild.cluster.local"]
  addresses: [192.0.2.5]
  resolution: STATIC
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 53, name: dns, protocol: UDP}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: upstream, namespace: prod}
spec: {hosts: [upstream.example.net], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: v1
kind: Service
metadata: {name: vms, namespace: prod}
spec: {clusterIP: None, selector: {app: vm}, ports: [{name: sql, port: 3306, targetPort: sql}, {name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vms, namespace: prod}
spec:
  hosts: [vms.example.net, vms.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 3306, name: sql, protocol: TCP}]
  workloadSelector: {labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: group-10.2.0.1, namespace: prod}
spec: {address: 10.2.0.1, labels: {app: vm}, ports: {sql: 33060}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: six, namespace: prod}
spec: {address: "fd00:2::1", labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: sick, namespace: prod, annotations: {proxy.istio.io/health-checks-enabled: "true"}}
spec: {address: 10.2.0.2, labels: {app: vm}}
`

// TestExplanationsAreTrue holds what the syncer explains against what a VM answers.
func TestExplanationsAreTrue(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "mesh.yaml", explainedMesh)
	_, syncer, people := syncerOn(t, folder)
	vm := programs.FreeAddress(t)
	// Nothing comes after the plugin: what it passes on fails.
	corefile := fmt.Sprintf(".:%s {\n bind 127.0.0.1\n meshvm cluster.local {\n  syncer %s\n  insecure\n  namespace prod\n  snapshot off\n }\n}\n",
		vm[strings.LastIndex(vm, ":")+1:], syncer)
	coredns, _ := programs.Serve(t, corefile)
	coredns.WaitFor(t, "in step with syncer")

	prefixes := []string{
		"", "x.", "_tcp.", "_udp.", "_http._tcp.", "_dns._udp.", "_sql._tcp.", "_metrics._tcp.", "_any._tcp.", "_tls._tcp.", "_nope._tcp.",
		"_sql._tcp.x.", "http.tcp.", "_._tcp.", "_tls.tcp.",
	}
	hosts := []string{
		"web.prod.svc.cluster.local", "address.prod.svc.cluster.local", "db.prod.svc.cluster.local", "db-0.db.prod.svc.cluster.local",
		"10-1-0-2.db.prod.svc.cluster.local", "10-1-0-3.db.prod.svc.cluster.local", "10-1-0-9.db.prod.svc.cluster.local", "none.prod.svc.cluster.local",
		"prod.svc.cluster.local", "empty.svc.cluster.local", "svc.cluster.local", "cluster.local", "api.cluster.local", "x.wild.cluster.local",
		"vms.prod.svc.cluster.local", "group-10.2.0.1.vms.prod.svc.cluster.local", "2.0.1.vms.prod.svc.cluster.local", "1.vms.prod.svc.cluster.local",
		"six.vms.prod.svc.cluster.local", "sick.vms.prod.svc.cluster.local", "vms.cluster.local", "group-10.2.0.1.vms.cluster.local", "0.1.vms.cluster.local",
		"sick.vms.cluster.local", "vms.example.net", "group-10.2.0.1.vms.example.net", "six.vms.example.net", "0.1.vms.example.net", "sick.vms.example.net",
		"api.example.com", "x.example.com", "upstream.example.net", "example.com", "example.org",
	}
	asked := map[explain.Outcome]int{}
	for _, host := range hosts {
		for _, prefix := range prefixes {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeSRV} {
				name := prefix + host
				want := answered(t, programs.Query(t, "udp", vm, name, qtype))
				got := explanation(t, people, name, dns.TypeToString[qtype])
				asked[got.Outcome]++
				if told(got) != told(want) {
					t.Errorf("%s %s: explained as %s (%s), but the VM answers %s", name, dns.TypeToString[qtype], told(got), got.Reason, told(want))
				}
			}
		}
	}
	t.Logf("asked: %v", asked)
	for _, outcome := range []explain.Outcome{explain.Answered, explain.NoData, explain.NameError, explain.PassedOn} {
		if asked[outcome] < 50 {
			t.Errorf("outcome %s came %d times: the test shows less than it says", outcome, asked[outcome])
		}
	}
}

// answered is a reply as an explanation has it.
func answered(t *testing.T, reply *dns.Msg) explain.Explanation {
	t.Helper()
	var e explain.Explanation
	for _, rr := range reply.Answer {
		value := strings.TrimSuffix(strings.TrimPrefix(rr.String(), rr.Header().String()), ".")
		e.Records = append(e.Records, explain.Record{Type: dns.TypeToString[rr.Header().Rrtype], Value: value})
	}
	switch {
	case reply.Rcode == dns.RcodeSuccess && len(reply.Answer) > 0:
		e.Outcome = explain.Answered
	case reply.Rcode == dns.RcodeSuccess:
		e.Outcome = explain.NoData
	case reply.Rcode == dns.RcodeNameError:
		e.Outcome = explain.NameError
	default:
		e.Outcome = explain.PassedOn
	}
	return e
}

func told(e explain.Explanation) string {
	var records []string
	for _, record := range e.Records {
		records = append(records, record.Type+" "+record.Value)
	}
	slices.Sort(records)
	return fmt.Sprintf("%s %q", e.Outcome, records)
}

// explanation is what a syncer's /debug/registry says to the namespace prod.
func explanation(t *testing.T, syncer, name, recordType string) explain.Explanation {
	t.Helper()
	query := url.Values{"name": {name}, "type": {recordType}, "namespace": {"prod"}}
	response, err := http.Get("http://" + syncer + "/debug/registry?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var e explain.Explanation
	if err := json.NewDecoder(response.Body).Decode(&e); err != nil {
		t.Fatalf("explanation of %s %s: %s: %v", name, recordType, response.Status, err)
	}
	return e
}
