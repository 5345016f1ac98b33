package server

import (
	"slices"
	"strings"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// workloadOf is what a WorkloadEntry yields for ServiceEntry prod/vms with host vms.example.net.
func workloadOf(name, address string, visibility registry.Visibility) registry.Update {
	claim := func(key, host, claims string, derived bool) registry.Resource {
		return registry.Resource{Key: key, Visibility: visibility, Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: &registryv1.Service{
			Host: host, Namespace: "prod", Name: claims, Origin: registryv1.Origin_ORIGIN_SERVICE_ENTRY, Addresses: encodeAddresses(address),
			AddressKind: registryv1.AddressKind_ADDRESS_KIND_ENDPOINT, Derived: derived,
		}}}}
	}
	return registry.Update{
		Object: registry.Object{Kind: "WorkloadEntry", Namespace: "prod", Name: name, Of: registry.Owner{Kind: "ServiceEntry", Name: "vms"}},
		Resources: []registry.Resource{
			claim(registryv1.WorkloadEntryHostKey("", "prod", name, "vms", "vms.example.net"), "vms.example.net", "vms", false),
			claim(registryv1.WorkloadEntryNameKey("", "prod", name, "vms", "vms.example.net"), name+".vms.example.net", name, true),
		},
		Present: true,
	}
}

// workloadSlice is what a WorkloadEntry yields for the headless Service prod/db.
func workloadSlice(name, address string, ready bool) registry.Update {
	return registry.Update{
		Object: registry.Object{Kind: "WorkloadEntry", Namespace: "prod", Name: name, Of: registry.Owner{Kind: "Service", Name: "db"}},
		Resources: []registry.Resource{{
			Key: registryv1.WorkloadEntrySliceKey("", "prod", name, "db"), Visibility: registry.Public(),
			Body: &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: &registryv1.EndpointSlice{
				Namespace: "prod", Name: name, Service: "db", Endpoints: []*registryv1.Endpoint{{Addresses: encodeAddresses(address), Name: name, Ready: ready}},
			}}},
		}},
		Present: true,
	}
}

func TestExplainWorkloads(t *testing.T) {
	s := start(t, nil)
	s.apply(
		serviceEntry("prod", "vms", "vms.example.net", 0, registry.Public()),
		workloadOf("group-10.2.0.1", "10.2.0.1", registry.Public()), workloadOf("vm-2", "10.2.0.2", registry.Public()),
		workloadOf("sick", "10.2.0.3", registry.Nobody()),
		serviceEntry("dev", "claimed", "vm-2.vms.example.net", 0, registry.Public(), "192.0.2.9"),
		headless("prod", "db"), workloadSlice("group-10.2.0.1", "10.2.0.1", true), workloadSlice("group-10.2.0.9", "10.2.0.9", false),
	)
	const zone = ".svc.cluster.local"
	for _, test := range []struct {
		name                             string
		outcome                          explain.Outcome
		records, objects, reason, claims string
	}{
		{"vms.example.net", explain.Answered, "A 10.2.0.1, A 10.2.0.2", "ServiceEntry prod/vms, WorkloadEntry prod/group-10.2.0.1, WorkloadEntry prod/vm-2",
			"ServiceEntry prod/vms claims it", "nobody else that is visible claims the host; ServiceEntry prod/vms selects it; ServiceEntry prod/vms selects it; it is not healthy"},
		{"group-10.2.0.1.vms.example.net", explain.Answered, "A 10.2.0.1", "WorkloadEntry prod/group-10.2.0.1",
			"WorkloadEntry prod/group-10.2.0.1 claims it", "it is the workload's own name"},
		{"vm-2.vms.example.net", explain.Answered, "A 192.0.2.9", "ServiceEntry dev/claimed",
			registryv1.ReasonDerived, registryv1.ReasonDerived + "; " + registryv1.ReasonDerived},
		{"sick.vms.example.net", explain.PassedOn, "", "", "WorkloadEntry prod/sick, which is not healthy", "it is not healthy"},
		{"0.1.vms.example.net", explain.PassedOn, "", "", "nothing in the mesh claims it", ""},
		{"db.prod" + zone, explain.Answered, "A 10.2.0.1", "Service prod/db", "Service prod/db claims it", "nobody else"},
		{"group-10.2.0.1.db.prod" + zone, explain.Answered, "A 10.2.0.1", "Service prod/db", "it is an endpoint of Service prod/db", "nobody else"},
		{"group-10.2.0.9.db.prod" + zone, explain.NameError, "", "", "it is an endpoint of Service prod/db, but not ready", ""},
		{"0.1.db.prod" + zone, explain.NoData, "", "", "it is there only because of WorkloadEntry prod/group-10.2.0.1", ""},
		{"0.9.db.prod" + zone, explain.NameError, "", "", "Service prod/db has no port 0/9", ""},
		{"10.2.0.1", explain.Answered, "PTR group-10.2.0.1.db.prod" + zone + ", PTR group-10.2.0.1.vms.example.net, PTR vms.example.net",
			"Service prod/db, WorkloadEntry prod/group-10.2.0.1, ServiceEntry prod/vms", "Service prod/db answers", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := s.explanation(t, test.name, "", "test")
			var records, objects, claims []string
			for _, record := range e.Records {
				records = append(records, record.Type+" "+record.Value)
			}
			for _, object := range e.Objects {
				objects = append(objects, object.String())
			}
			for _, candidate := range e.Candidates {
				for _, claim := range candidate.Claims {
					claims = append(claims, claim.Reason)
				}
			}
			slices.Sort(records)
			if e.Outcome != test.outcome || strings.Join(records, ", ") != test.records || strings.Join(objects, ", ") != test.objects || !strings.Contains(e.Reason, test.reason) {
				t.Errorf("got %s %q by %q because %q\nwant %s %q by %q because %q", e.Outcome, records, objects, e.Reason, test.outcome, test.records, test.objects, test.reason)
			}
			if got := strings.Join(claims, "; "); test.claims != "" && !strings.HasPrefix(got, test.claims) {
				t.Errorf("claims: got %q, want %q", got, test.claims)
			}
		})
	}
}
