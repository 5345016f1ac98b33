package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// serviceEntry is one host of a ServiceEntry.
func serviceEntry(namespace, name, host string, created int64, visibility registry.Visibility, addresses ...string) registry.Update {
	return claim(&registryv1.Service{
		Host: host, Namespace: namespace, Name: name, Origin: registryv1.Origin_ORIGIN_SERVICE_ENTRY,
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_LITERAL, Addresses: encodeAddresses(addresses...), CreatedAt: created,
	}, visibility)
}

func headless(namespace, name string) registry.Update {
	return claim(&registryv1.Service{
		Host: name + "." + namespace + ".svc.cluster.local", Namespace: namespace, Name: name,
		Origin: registryv1.Origin_ORIGIN_KUBERNETES, Headless: true,
	}, registry.Public())
}

func endpointSlice(namespace, name, service string, endpoints ...*registryv1.Endpoint) registry.Update {
	return registry.Update{
		Object: registry.Object{Kind: "EndpointSlice", Namespace: namespace, Name: name},
		Resources: []registry.Resource{{
			Key: registryv1.EndpointSliceKey("", namespace, name), Visibility: registry.Public(),
			Body: &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: &registryv1.EndpointSlice{
				Namespace: namespace, Name: name, Service: service, Endpoints: endpoints,
			}}},
		}},
	}
}

func namespaceObject(name string) registry.Update {
	return registry.Update{
		Object: registry.Object{Kind: "Namespace", Name: name},
		Resources: []registry.Resource{{
			Key: registryv1.NamespaceKey("", name), Visibility: registry.Public(),
			Body: &registryv1.Body{Body: &registryv1.Body_Namespace{Namespace: &registryv1.Namespace{Name: name}}},
		}},
	}
}

// mesh has one of everything that names are made of.
func mesh() []registry.Update {
	external := claim(&registryv1.Service{
		Host: "alias.prod.svc.cluster.local", Namespace: "prod", Name: "alias",
		Origin: registryv1.Origin_ORIGIN_KUBERNETES, ExternalName: "db.example.org",
	}, registry.Public())
	return []registry.Update{
		namespaceObject("empty"),
		service("prod", "reviews", "10.0.0.1", registry.Public()),
		service("prod", "secret", "10.0.0.2", registry.VisibleTo("prod")),
		service("prod", "nobodys", "10.0.0.3", registry.Nobody()),
		claim(&registryv1.Service{
			Host: "dual.prod.svc.cluster.local", Namespace: "prod", Name: "dual", Origin: registryv1.Origin_ORIGIN_KUBERNETES,
			AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP, Addresses: encodeAddresses("10.0.0.4", "fd00::4"),
		}, registry.Public()),
		external,
		headless("prod", "db"), headless("prod", "idle"),
		endpointSlice("prod", "db-1", "db",
			&registryv1.Endpoint{Addresses: encodeAddresses("10.1.0.1"), Hostname: "db-0", Ready: true},
			&registryv1.Endpoint{Addresses: encodeAddresses("10.1.0.3"), Ready: false}),
		endpointSlice("prod", "db-2", "db", &registryv1.Endpoint{Addresses: encodeAddresses("10.1.0.2"), Ready: true}),
		serviceEntry("prod", "api", "api.example.com", 200, registry.Public(), "192.0.2.1"),
		serviceEntry("prod", "api-more", "api.example.com", 300, registry.Public(), "192.0.2.2"),
		serviceEntry("dev", "api", "api.example.com", 100, registry.Public(), "192.0.2.3"),
		serviceEntry("prod", "wild", "*.example.com", 0, registry.Public(), "192.0.2.10"),
		serviceEntry("prod", "deep", "*.b.example.com", 0, registry.VisibleTo("prod"), "192.0.2.11"),
		serviceEntry("prod", "by-dns", "www.example.net", 0, registry.Public()),
		// In the cluster's zone: the Service is older than it is young.
		serviceEntry("dev", "usurper", "reviews.prod.svc.cluster.local", 1, registry.Public(), "192.0.2.66"),
	}
}

func (s *syncer) explanation(t *testing.T, name, recordType, namespace string) explain.Explanation {
	t.Helper()
	query := url.Values{"name": {name}, "namespace": {namespace}}
	if recordType != "" {
		query.Set("type", recordType)
	}
	code, body := s.get("/debug/registry?" + query.Encode())
	if code != http.StatusOK {
		t.Fatalf("explain %s %s: %d %s", name, recordType, code, body)
	}
	var e explain.Explanation
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return e
}

func TestExplain(t *testing.T) {
	const zone = ".svc.cluster.local"
	tests := map[string]struct {
		name, recordType, namespace string
		outcome                     explain.Outcome
		records                     string
		object                      string
		reason                      string
	}{
		"cluster IP":             {"reviews.prod" + zone, "", "test", explain.Answered, "A 10.0.0.1", "Service prod/reviews", "a Kubernetes Service wins over a ServiceEntry"},
		"any spelling":           {"Reviews.PROD" + zone + ".", "", "test", explain.Answered, "A 10.0.0.1", "Service prod/reviews", ""},
		"own namespace wins":     {"reviews.prod" + zone, "", "dev", explain.Answered, "A 192.0.2.66", "ServiceEntry dev/usurper", "own namespace wins"},
		"both families":          {"dual.prod" + zone, "", "", explain.Answered, "A 10.0.0.4, AAAA fd00::4", "Service prod/dual", ""},
		"one family":             {"dual.prod" + zone, "AAAA", "", explain.Answered, "AAAA fd00::4", "Service prod/dual", ""},
		"no such family":         {"reviews.prod" + zone, "aaaa", "", explain.NoData, "", "Service prod/reviews", "has no AAAA record"},
		"CNAME of none":          {"reviews.prod" + zone, "CNAME", "", explain.NoData, "", "Service prod/reviews", "has no CNAME record"},
		"exported, seen":         {"secret.prod" + zone, "", "prod", explain.Answered, "A 10.0.0.2", "Service prod/secret", ""},
		"exported, not seen":     {"secret.prod" + zone, "", "dev", explain.NameError, "", "", "Service prod/secret claims it, but is exported to prod only, not to dev"},
		"exported to nobody":     {"nobodys.prod" + zone, "", "prod", explain.NameError, "", "", "exported to nobody, not to prod"},
		"of no namespace":        {"secret.prod" + zone, "", "", explain.NameError, "", "", "not to a VM without a namespace"},
		"alias":                  {"alias.prod" + zone, "", "", explain.Answered, "CNAME db.example.org", "Service prod/alias", "is an alias"},
		"headless":               {"db.prod" + zone, "", "", explain.Answered, "A 10.1.0.1, A 10.1.0.2", "Service prod/db", ""},
		"headless, other family": {"db.prod" + zone, "AAAA", "", explain.NoData, "", "Service prod/db", "has no AAAA record"},
		"headless, none ready":   {"idle.prod" + zone, "", "", explain.NameError, "", "Service prod/idle", "has no ready endpoint"},
		"endpoint by hostname":   {"db-0.db.prod" + zone, "", "", explain.Answered, "A 10.1.0.1", "Service prod/db", "an endpoint of Service prod/db"},
		"endpoint by address":    {"10-1-0-2.db.prod" + zone, "", "", explain.Answered, "A 10.1.0.2", "Service prod/db", "an endpoint of Service prod/db"},
		"endpoint not ready":     {"10-1-0-3.db.prod" + zone, "", "", explain.NameError, "", "", "not ready"},
		"endpoint of none":       {"10-1-0-9.db.prod" + zone, "", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"below a cluster IP":     {"x.reviews.prod" + zone, "", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"unknown in the zone":    {"nothing.prod" + zone, "", "", explain.NameError, "", "", "cluster.local is the mesh's own"},
		"namespace":              {"prod" + zone, "", "", explain.NoData, "", "", "it is there only because of"},
		"empty namespace":        {"empty" + zone, "", "", explain.NoData, "", "", "Namespace empty"},
		"no such namespace":      {"absent" + zone, "", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"the zone":               {"cluster.local", "", "", explain.NoData, "", "", "the cluster's zone itself"},
		"outside":                {"example.org", "", "", explain.PassedOn, "", "", "nothing in the mesh claims it"},
		"a zone that looks alike": {"mycluster.local", "", "", explain.PassedOn, "", "",
			"nothing in the mesh claims it"},
		"ServiceEntries: the oldest namespace": {"api.example.com", "", "test", explain.Answered, "A 192.0.2.3", "ServiceEntry dev/api", "the oldest wins"},
		"ServiceEntries: joined": {"api.example.com", "", "prod", explain.Answered, "A 192.0.2.1, A 192.0.2.2", "ServiceEntry prod/api, ServiceEntry prod/api-more",
			"own namespace wins"},
		"wildcard":                   {"x.y.example.com", "", "dev", explain.Answered, "A 192.0.2.10", "ServiceEntry prod/wild", "the closest wildcard"},
		"longest wildcard":           {"x.b.example.com", "", "prod", explain.Answered, "A 192.0.2.11", "ServiceEntry prod/deep", "*.b.example.com"},
		"longest wildcard, not seen": {"x.b.example.com", "", "dev", explain.Answered, "A 192.0.2.10", "ServiceEntry prod/wild", "*.example.com"},
		"wildcard's apex":            {"example.com", "", "prod", explain.PassedOn, "", "", ""},
		"wildcard's own spelling":    {"*.example.com", "", "prod", explain.Answered, "A 192.0.2.10", "ServiceEntry prod/wild", ""},
		"no addresses":               {"www.example.net", "", "", explain.PassedOn, "", "ServiceEntry prod/by-dns", "has no address"},
		"outside, no such family":    {"api.example.com", "AAAA", "test", explain.NoData, "", "ServiceEntry dev/api", "has no AAAA record"},
		"PTR of a cluster IP":        {"10.0.0.1", "", "", explain.Answered, "PTR reviews.prod" + zone, "Service prod/reviews", ""},
		"PTR by reverse name":        {"1.0.0.10.in-addr.arpa", "", "", explain.Answered, "PTR reviews.prod" + zone, "Service prod/reviews", ""},
		"PTR of IPv6":                {"fd00::4", "PTR", "", explain.Answered, "PTR dual.prod" + zone, "Service prod/dual", ""},
		"PTR by IPv6 reverse name": {"4." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa", "", "", explain.Answered,
			"PTR dual.prod" + zone, "Service prod/dual", ""},
		"PTR of an endpoint":         {"10.1.0.1", "", "", explain.Answered, "PTR db-0.db.prod" + zone, "Service prod/db", ""},
		"PTR of one not ready":       {"10.1.0.3", "", "", explain.PassedOn, "", "", "no name"},
		"PTR of what is hidden":      {"10.0.0.2", "", "dev", explain.PassedOn, "", "", "no name that dev sees"},
		"PTR of what lost":           {"192.0.2.66", "", "test", explain.PassedOn, "", "", "no name"},
		"PTR of a ServiceEntry host": {"192.0.2.3", "", "test", explain.Answered, "PTR api.example.com", "ServiceEntry dev/api", ""},
		"PTR of a wildcard":          {"192.0.2.10", "", "", explain.PassedOn, "", "", "no name"},
	}
	s := start(t, nil)
	s.apply(mesh()...)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := s.explanation(t, test.name, test.recordType, test.namespace)
			var records, objects []string
			for _, record := range e.Records {
				records = append(records, record.Type+" "+record.Value)
			}
			for _, object := range e.Objects {
				objects = append(objects, object.String())
			}
			got := fmt.Sprintf("%s [%s] from [%s]", e.Outcome, strings.Join(records, ", "), strings.Join(objects, ", "))
			want := fmt.Sprintf("%s [%s] from [%s]", test.outcome, test.records, test.object)
			if got != want {
				t.Errorf("got  %s\nwant %s\nbecause %s", got, want, e.Reason)
			}
			if !strings.Contains(e.Reason, test.reason) || e.Reason == "" {
				t.Errorf("reason is %q, want it to say %q", e.Reason, test.reason)
			}
			if !e.Ready || e.Revision != 1 || e.ClusterDomain != "cluster.local" || e.Namespace != test.namespace {
				t.Errorf("ready %t, revision %d, domain %q, namespace %q", e.Ready, e.Revision, e.ClusterDomain, e.Namespace)
			}
		})
	}
}

func TestExplainListsEveryClaim(t *testing.T) {
	s := start(t, nil)
	s.apply(mesh()...)
	e := s.explanation(t, "reviews.prod.svc.cluster.local", "", "test")
	if len(e.Candidates) != 1 || !e.Candidates[0].Chosen || len(e.Candidates[0].Claims) != 2 {
		t.Fatalf("candidates = %+v", e.Candidates)
	}
	winner, loser := e.Candidates[0].Claims[0], e.Candidates[0].Claims[1]
	if !winner.Winner || winner.Object.String() != "Service prod/reviews" || winner.Key != key("prod", "reviews") ||
		!slices.Equal(winner.Addresses, []string{"10.0.0.1"}) || winner.AddressKind != "cluster IP" || winner.ExportTo != "*" || winner.CreatedAt != nil {
		t.Errorf("winner = %+v", winner)
	}
	if loser.Winner || !loser.Visible || loser.Reason != registryv1.ReasonOrigin || loser.CreatedAt == nil || loser.CreatedAt.Unix() != 1 {
		t.Errorf("loser = %+v", loser)
	}

	e = s.explanation(t, "x.b.example.com", "", "dev")
	if len(e.Candidates) != 2 || e.Candidates[0].Chosen || e.Candidates[0].Claims[0].Visible || !e.Candidates[1].Chosen {
		t.Errorf("candidates of a name under two wildcards = %+v", e.Candidates)
	}

	e = s.explanation(t, "db.prod.svc.cluster.local", "", "")
	if len(e.Endpoints) != 3 || e.Endpoints[0].Names[0] != "db-0.db.prod.svc.cluster.local" || e.Endpoints[1].Ready || e.Endpoints[2].Slice.Name != "db-2" {
		t.Errorf("endpoints = %+v", e.Endpoints)
	}
}

func TestExplainBeforeReady(t *testing.T) {
	s := startUnsynced(t, registry.Options{}, nil)
	if e := s.explanation(t, "a.b", "", ""); e.Ready {
		t.Error("the explanation says that the syncer is ready")
	}
}

func TestBadQuestions(t *testing.T) {
	tests := map[string]struct{ query, want string }{
		"no name":          {"", `"name" is "": want a name`},
		"empty name":       {"name=.", `"name" is ".": want a name`},
		"unknown":          {"name=a&ns=b", `parameter "ns": want name, type or namespace`},
		"twice":            {"name=a&name=b", `"name" is given 2 times`},
		"type":             {"name=a&type=XYZ", `"type" is "XYZ": want A, AAAA, CNAME or PTR`},
		"namespace":        {"name=a&namespace=a.b", `"namespace" is "a.b": want the name of a namespace`},
		"empty label":      {"name=a..b", "empty label"},
		"long label":       {"name=" + strings.Repeat("a", 64), "a label has at most 63"},
		"long name":        {"name=" + strings.Repeat("a.", 128), "at most 253"},
		"not ASCII":        {"name=gr%C3%B6%C3%9Fe.de", "printable ASCII"},
		"space":            {"name=a%20b", "printable ASCII"},
		"PTR of a name":    {"name=a.b&type=PTR", "for PTR want an address"},
		"PTR, no address":  {"name=1.2.3.in-addr.arpa&type=PTR", "for PTR want an address"},
		"PTR, no nibbles":  {"name=x.ip6.arpa&type=PTR", "for PTR want an address"},
		"PTR, IPv6 in IP4": {"name=1.::.in-addr.arpa&type=PTR", "for PTR want an address"},
	}
	s := start(t, nil)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, body := s.get("/debug/registry?" + test.query)
			if code != http.StatusBadRequest || !strings.Contains(body, test.want) {
				t.Errorf("got %d %q, want 400 with %q", code, body, test.want)
			}
		})
	}
}

func FuzzParseQuestion(f *testing.F) {
	for _, seed := range []string{"name=a.b", "name=1.0.0.10.in-addr.arpa&type=ptr", "name=*.a&namespace=prod", "name=::1", "name=a%2eb&type=AAAA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := parseQuestion(query)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error that says nothing")
			}
			return
		}
		if len(q.types) == 0 || len(q.name) == 0 || len(q.name) > 253 || q.name != strings.ToLower(q.name) {
			t.Errorf("%q gives %+v", text, q)
		}
	})
}
