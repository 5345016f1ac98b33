package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// TestExplanationsTellWhatVMsAnswer asks random meshes names that their objects imply, and near misses: what the syncer explains must be what its mirror on a VM answers.
func TestExplanationsTellWhatVMsAnswer(t *testing.T) {
	asked := map[explain.Outcome]int{}
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 3))
		s := startSyncer(t)
		if err := s.source.Apply(time.Now(), randomMesh(random)...); err != nil {
			t.Fatal(err)
		}
		s.source.Synced()
		client := &http.Client{}
		for _, namespace := range []string{"", "prod", "dev"} {
			vm := lookup{syncer: s.vms, namespace: namespace, timeout: time.Minute}
			vm.connection.Insecure = true
			state, err := vm.follow(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for name := range names {
				for _, recordType := range []string{"", "A", "AAAA", "CNAME", "SRV"} {
					if random.IntN(5) > 0 {
						continue // Other meshes are asked the others.
					}
					ask := lookup{name: name, recordType: recordType, namespace: namespace, http: s.http}
					want, err := ask.answer(state)
					if err != nil {
						t.Fatal(err)
					}
					got := askWith(t, client, &ask)
					asked[got.Outcome]++
					if told(got) != told(want) {
						t.Errorf("seed %d, %s %s for namespace %q: explained as %s (%s), but a VM answers %s (%s)",
							seed, name, recordType, namespace, told(got), got.Reason, told(want), want.Reason)
					}
				}
			}
		}
		client.CloseIdleConnections()
	}
	for _, outcome := range []explain.Outcome{explain.Answered, explain.NoData, explain.NameError, explain.PassedOn} {
		if asked[outcome] < 100 {
			t.Errorf("outcome %s came %d times: the test shows less than it says", outcome, asked[outcome])
		}
	}
}

func askWith(t *testing.T, client *http.Client, l *lookup) explain.Explanation {
	t.Helper()
	address, err := pageURL(l.http, "registry", l.query())
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var e explain.Explanation
	if err := json.NewDecoder(response.Body).Decode(&e); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	return e
}

// told is what both must tell. Records of one type come in any order.
func told(e explain.Explanation) string {
	var records []string
	for _, record := range e.Records {
		records = append(records, record.Type+" "+record.Value)
	}
	slices.Sort(records)
	return fmt.Sprintf("%s %s %q", strings.Join(e.Types, ","), e.Outcome, records)
}

const svc = ".svc.cluster.local"

// randomHosts are what objects claim, in the cluster's zone and out of it.
var randomHosts = []string{
	"a.prod" + svc, "b.prod" + svc, "a.dev" + svc, "x.a.prod" + svc, "_tcp.a.prod" + svc, "deep.cluster.local", "*.cluster.local", "*.prod" + svc,
	"a.example.com", "b.example.com", "*.example.com", "*.b.example.com", "_tcp.b.example.com",
}

// names yields every name that is asked for.
func names(yield func(string) bool) {
	hosts := append(slices.Clone(randomHosts), "prod"+svc, "empty"+svc, "absent"+svc, "svc.cluster.local", "cluster.local", "c.prod"+svc, "x.b.example.com", "example.com", "example.org")
	prefixes := []string{"", "x.", "y.", "10-0-0-1.", "_tcp.", "_udp.", "tcp.", "_http._tcp.", "_dns._udp.", "_http._udp.", "http.tcp.", "_._tcp.", "_dns._.", "_nope._tcp.", "_http.tcp.", "_http._tcp.x.", "q._http._tcp.", strings.Repeat("x", 63) + "._udp."}
	for _, host := range hosts {
		for _, prefix := range prefixes {
			if !yield(prefix + host) {
				return
			}
		}
	}
}

func randomMesh(random *rand.Rand) []registry.Update {
	updates := []registry.Update{update("Namespace", "", "empty", registryv1.NamespaceKey("", "empty"), registry.Public(),
		&registryv1.Body{Body: &registryv1.Body_Namespace{Namespace: &registryv1.Namespace{Name: "empty"}}})}
	for _, namespace := range []string{"prod", "dev"} {
		for _, name := range []string{"a", "b", "c"} {
			updates = append(updates, randomService(random, namespace, name))
			for i := range random.IntN(4) {
				updates = append(updates, randomSlice(random, namespace, name, fmt.Sprintf("%s-%d", name, i)))
			}
		}
		for i := range 6 {
			updates = append(updates, randomEntry(random, namespace, fmt.Sprintf("entry-%d", i)))
		}
	}
	return updates
}

func randomVisibility(random *rand.Rand) registry.Visibility {
	return []registry.Visibility{registry.Public(), registry.Public(), registry.Public(), registry.VisibleTo("prod"), registry.Nobody()}[random.IntN(5)]
}

func randomService(random *rand.Rand, namespace, name string) registry.Update {
	s := &registryv1.Service{Host: name + "." + namespace + svc, Namespace: namespace, Name: name, Origin: registryv1.Origin_ORIGIN_KUBERNETES, Ports: randomPorts(random)}
	switch random.IntN(4) {
	case 0:
		s.ExternalName = "db.example.org"
	case 1:
		s.AddressKind, s.Addresses = registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP, randomAddresses(random)
	default:
		s.Headless = true
	}
	return service(s, randomVisibility(random))
}

func randomEntry(random *rand.Rand, namespace, name string) registry.Update {
	s := &registryv1.Service{
		Host: randomHosts[random.IntN(len(randomHosts))], Namespace: namespace, Name: name, Origin: registryv1.Origin_ORIGIN_SERVICE_ENTRY,
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_LITERAL, Addresses: randomAddresses(random), Ports: randomPorts(random), CreatedAt: random.Int64N(3),
	}
	if len(s.Addresses) == 0 && random.IntN(2) == 0 {
		s.AddressKind = registryv1.AddressKind_ADDRESS_KIND_PENDING
	}
	return service(s, randomVisibility(random))
}

func randomSlice(random *rand.Rand, namespace, name, slice string) registry.Update {
	var endpoints []*registryv1.Endpoint
	for range random.IntN(4) {
		addresses := randomAddresses(random)
		if len(addresses) == 0 {
			continue
		}
		endpoints = append(endpoints, &registryv1.Endpoint{
			Addresses: addresses, Hostname: []string{"", "", "x", "y", "_tcp"}[random.IntN(5)], Ready: random.IntN(4) > 0,
		})
	}
	return update("EndpointSlice", namespace, slice, registryv1.EndpointSliceKey("", namespace, slice), registry.Public(),
		&registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: &registryv1.EndpointSlice{
			Namespace: namespace, Name: slice, Service: name, Endpoints: endpoints, Ports: randomPorts(random),
		}}})
}

func randomAddresses(random *rand.Rand) [][]byte {
	all := encodeAddresses("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2")
	return slices.DeleteFunc(all, func([]byte) bool { return random.IntN(3) > 0 })
}

func randomPorts(random *rand.Rand) []*registryv1.Port {
	tcp, udp := registryv1.Protocol_PROTOCOL_TCP, registryv1.Protocol_PROTOCOL_UDP
	all := []*registryv1.Port{
		{Name: "http", Number: 80, Protocol: tcp}, {Name: "http2", Number: 80, Protocol: tcp}, {Name: "dns", Number: 53, Protocol: tcp},
		{Name: "dns", Number: 53, Protocol: udp}, {Name: "any", Protocol: tcp}, {Number: 99, Protocol: udp}, {Name: "Not A Label", Number: 98, Protocol: tcp},
		{Name: strings.Repeat("x", 63), Number: 97, Protocol: udp}, {Name: strings.Repeat("x", 64), Number: 95, Protocol: udp}, {Name: "odd", Number: 96},
	}
	return slices.DeleteFunc(all, func(*registryv1.Port) bool { return random.IntN(3) > 0 })
}
