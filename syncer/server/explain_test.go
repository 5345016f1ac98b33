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

// withPorts is a Service or an EndpointSlice with ports, each written as NAME:NUMBER/PROTOCOL.
func withPorts(u registry.Update, texts ...string) registry.Update {
	var ports []*registryv1.Port
	for _, text := range texts {
		name, rest, _ := strings.Cut(text, ":")
		var number uint32
		var protocol string
		if _, err := fmt.Sscanf(strings.Replace(rest, "/", " ", 1), "%d %s", &number, &protocol); err != nil {
			panic(err)
		}
		ports = append(ports, &registryv1.Port{
			Name: name, Number: number, Protocol: registryv1.Protocol(registryv1.Protocol_value["PROTOCOL_"+strings.ToUpper(protocol)]),
		})
	}
	switch body := u.Resources[0].Body.GetBody().(type) {
	case *registryv1.Body_Service:
		body.Service.Ports = ports
	case *registryv1.Body_EndpointSlice:
		body.EndpointSlice.Ports = ports
	}
	return u
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

// awaited is an object whose hosts wait for virtual IPs.
func awaited(u registry.Update) registry.Update {
	u.Resources[0].Body.GetService().AddressKind = registryv1.AddressKind_ADDRESS_KIND_PENDING
	return u
}

// mesh has one of everything that names are made of.
func mesh() []registry.Update {
	external := claim(&registryv1.Service{
		Host: "alias.prod.svc.cluster.local", Namespace: "prod", Name: "alias",
		Origin: registryv1.Origin_ORIGIN_KUBERNETES, ExternalName: "db.example.org",
	}, registry.Public())
	return []registry.Update{
		namespaceObject("empty"),
		withPorts(service("prod", "reviews", "10.0.0.1", registry.Public()), "http:80/tcp", "dns:53/udp"),
		withPorts(service("prod", "secret", "10.0.0.2", registry.VisibleTo("prod")), "http:80/tcp"),
		service("prod", "nobodys", "10.0.0.3", registry.Nobody()),
		withPorts(claim(&registryv1.Service{
			Host: "dual.prod.svc.cluster.local", Namespace: "prod", Name: "dual", Origin: registryv1.Origin_ORIGIN_KUBERNETES,
			AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP, Addresses: encodeAddresses("10.0.0.4", "fd00::4"),
		}, registry.Public()), "http:80/tcp", "https:443/tcp", ":9999/sctp"),
		withPorts(external, "http:80/tcp"),
		headless("prod", "db"), headless("prod", "idle"), headless("prod", "mixed"),
		withPorts(endpointSlice("prod", "db-1", "db",
			&registryv1.Endpoint{Addresses: encodeAddresses("10.1.0.1"), Hostname: "db-0", Ready: true},
			&registryv1.Endpoint{Addresses: encodeAddresses("10.1.0.3"), Ready: false}), "sql:3306/tcp", "metrics:9090/tcp"),
		withPorts(endpointSlice("prod", "db-2", "db", &registryv1.Endpoint{Addresses: encodeAddresses("10.1.0.2"), Ready: true}), "sql:3306/tcp"),
		// Endpoints at every port, at none, and one of both families in two slices.
		withPorts(endpointSlice("prod", "mixed-1", "mixed", &registryv1.Endpoint{Addresses: encodeAddresses("10.1.1.1"), Ready: true}), "any:0/tcp"),
		endpointSlice("prod", "mixed-2", "mixed", &registryv1.Endpoint{Addresses: encodeAddresses("10.1.1.2"), Ready: true}),
		withPorts(endpointSlice("prod", "mixed-3", "mixed", &registryv1.Endpoint{Addresses: encodeAddresses("10.1.1.3"), Hostname: "m-0", Ready: true}), "grpc:50051/tcp"),
		withPorts(endpointSlice("prod", "mixed-4", "mixed", &registryv1.Endpoint{Addresses: encodeAddresses("fd00::13"), Hostname: "m-0", Ready: true}), "grpc:50051/tcp"),
		withPorts(endpointSlice("prod", "mixed-5", "mixed", &registryv1.Endpoint{Addresses: encodeAddresses("10.1.1.4"), Hostname: "m-1"}), "late:1/tcp"),
		withPorts(serviceEntry("prod", "api", "api.example.com", 200, registry.Public(), "192.0.2.1"), "https:443/tcp"),
		withPorts(serviceEntry("prod", "api-more", "api.example.com", 300, registry.Public(), "192.0.2.2"), "https:443/tcp", "quic:443/udp"),
		withPorts(serviceEntry("dev", "api", "api.example.com", 100, registry.Public(), "192.0.2.3"), "https:8443/tcp"),
		withPorts(serviceEntry("prod", "wild", "*.example.com", 0, registry.Public(), "192.0.2.10"), "https:443/tcp"),
		serviceEntry("prod", "deep", "*.b.example.com", 0, registry.VisibleTo("prod"), "192.0.2.11"),
		withPorts(serviceEntry("prod", "by-dns", "www.example.net", 0, registry.Public()), "https:443/tcp"),
		serviceEntry("prod", "portless", "portless.example.net", 0, registry.Public(), "192.0.2.20"),
		awaited(serviceEntry("prod", "late", "late.example.net", 0, registry.Public())),
		awaited(serviceEntry("prod", "late-inside", "late.prod.svc.cluster.local", 0, registry.Public())),
		awaited(serviceEntry("prod", "half", "half.example.net", 0, registry.Public())),
		serviceEntry("prod", "half-b", "half.example.net", 1, registry.Public(), "192.0.2.30"),
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
	return decodeExplanation(t, body)
}

func decodeExplanation(t *testing.T, body string) explain.Explanation {
	t.Helper()
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

		"SRV of a port":                      {"_http._tcp.reviews.prod" + zone, "SRV", "", explain.Answered, "SRV 0 100 80 reviews.prod" + zone, "Service prod/reviews", "has the port http/tcp; addresses times ports: 1,"},
		"SRV without being asked":            {"_http._tcp.reviews.prod" + zone, "", "", explain.Answered, "SRV 0 100 80 reviews.prod" + zone, "Service prod/reviews", ""},
		"SRV in any spelling":                {"_HTTP._Tcp.Reviews.prod" + zone + ".", "srv", "", explain.Answered, "SRV 0 100 80 reviews.prod" + zone, "Service prod/reviews", ""},
		"SRV without underscores":            {"http.tcp.reviews.prod" + zone, "SRV", "", explain.Answered, "SRV 0 100 80 reviews.prod" + zone, "Service prod/reviews", ""},
		"SRV of any port of a protocol":      {"_._udp.reviews.prod" + zone, "SRV", "", explain.Answered, "SRV 0 100 53 reviews.prod" + zone, "Service prod/reviews", "has the port any/udp"},
		"SRV of a host":                      {"reviews.prod" + zone, "SRV", "", explain.Answered, "SRV 0 50 80 reviews.prod" + zone + ", SRV 0 50 53 reviews.prod" + zone, "Service prod/reviews", "2, which share"},
		"SRV: both families share":           {"_http._tcp.dual.prod" + zone, "SRV", "", explain.Answered, "SRV 0 50 80 dual.prod" + zone, "Service prod/dual", "2, which share"},
		"SRV: a port without name":           {"dual.prod" + zone, "SRV", "", explain.Answered, "SRV 0 16 80 dual.prod" + zone + ", SRV 0 16 443 dual.prod" + zone + ", SRV 0 16 9999 dual.prod" + zone, "Service prod/dual", "6, which share"},
		"SRV of another protocol":            {"_http._udp.reviews.prod" + zone, "SRV", "", explain.NameError, "", "", "Service prod/reviews has no port http/udp, only http/tcp, dns/udp"},
		"SRV of no such port":                {"_nope._tcp.reviews.prod" + zone, "SRV", "", explain.NameError, "", "", "has no port nope/tcp"},
		"SRV of no such service":             {"_http._tcp.nothing.prod" + zone, "SRV", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"SRV of the hidden":                  {"_http._tcp.secret.prod" + zone, "SRV", "dev", explain.NameError, "", "", "Service prod/secret claims secret.prod" + zone + ", but is exported to prod only, not to dev"},
		"SRV of own namespace":               {"_http._tcp.reviews.prod" + zone, "SRV", "dev", explain.NameError, "", "", "ServiceEntry dev/usurper has no port http/tcp, nor any that has a name"},
		"SRV of a service without ports":     {"reviews.prod" + zone, "SRV", "dev", explain.NoData, "", "ServiceEntry dev/usurper", "says no port number"},
		"SRV of an alias":                    {"alias.prod" + zone, "SRV", "", explain.Answered, "CNAME db.example.org", "Service prod/alias", "is an alias"},
		"SRV below an alias":                 {"_http._tcp.alias.prod" + zone, "SRV", "", explain.NameError, "", "", "is an alias: there is no name below it"},
		"SRV of endpoints":                   {"_sql._tcp.db.prod" + zone, "SRV", "", explain.Answered, "SRV 0 50 3306 10-1-0-2.db.prod" + zone + ", SRV 0 50 3306 db-0.db.prod" + zone, "Service prod/db", "has the port sql/tcp"},
		"SRV of some endpoints":              {"_metrics._tcp.db.prod" + zone, "SRV", "", explain.Answered, "SRV 0 100 9090 db-0.db.prod" + zone, "Service prod/db", ""},
		"SRV of a headless host":             {"db.prod" + zone, "SRV", "", explain.Answered, "SRV 0 33 3306 10-1-0-2.db.prod" + zone + ", SRV 0 33 3306 db-0.db.prod" + zone + ", SRV 0 33 9090 db-0.db.prod" + zone, "Service prod/db", "3, which share"},
		"SRV of an endpoint":                 {"db-0.db.prod" + zone, "SRV", "", explain.Answered, "SRV 0 50 3306 db-0.db.prod" + zone + ", SRV 0 50 9090 db-0.db.prod" + zone, "Service prod/db", "it is an endpoint of Service prod/db; addresses times ports: 2"},
		"SRV of an endpoint not ready":       {"10-1-0-3.db.prod" + zone, "SRV", "", explain.NameError, "", "", "not ready"},
		"SRV of a port of an endpoint":       {"_sql._tcp.db-0.db.prod" + zone, "SRV", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"SRV of none ready":                  {"idle.prod" + zone, "SRV", "", explain.NameError, "", "Service prod/idle", "has no ready endpoint"},
		"SRV of a port of none ready":        {"_sql._tcp.idle.prod" + zone, "SRV", "", explain.NameError, "", "", "has no port sql/tcp, nor any"},
		"SRV: an endpoint of both families":  {"_grpc._tcp.mixed.prod" + zone, "SRV", "", explain.Answered, "SRV 0 50 50051 m-0.mixed.prod" + zone, "Service prod/mixed", ""},
		"SRV: endpoints without port number": {"mixed.prod" + zone, "SRV", "", explain.Answered, "SRV 0 25 50051 m-0.mixed.prod" + zone, "Service prod/mixed", "4, which share"},
		"SRV of an endpoint at any port":     {"10-1-1-1.mixed.prod" + zone, "SRV", "", explain.NoData, "", "Service prod/mixed", "says no port number"},
		"SRV of a port that is any":          {"_any._tcp.mixed.prod" + zone, "SRV", "", explain.NoData, "", "Service prod/mixed", "says no port number"},
		"SRV of a port of none but unready":  {"_late._tcp.mixed.prod" + zone, "SRV", "", explain.NameError, "", "", "has no port late/tcp, only any/tcp, grpc/tcp"},
		"A of a port":                        {"_http._tcp.dual.prod" + zone, "A", "", explain.Answered, "A 10.0.0.4", "Service prod/dual", "has the port http/tcp"},
		"AAAA of a port of endpoints":        {"_grpc._tcp.mixed.prod" + zone, "AAAA", "", explain.Answered, "AAAA fd00::13", "Service prod/mixed", ""},
		"A of a port of some endpoints":      {"_metrics._tcp.db.prod" + zone, "A", "", explain.Answered, "A 10.1.0.1", "Service prod/db", ""},
		"AAAA of a port without":             {"_http._tcp.reviews.prod" + zone, "AAAA", "", explain.NoData, "", "Service prod/reviews", "has no AAAA record"},
		"CNAME of a port":                    {"_http._tcp.reviews.prod" + zone, "CNAME", "", explain.NoData, "", "Service prod/reviews", "has no CNAME record"},
		"protocol":                           {"_tcp.reviews.prod" + zone, "SRV", "", explain.NoData, "", "", "it is there only because of ports of Service prod/reviews"},
		"protocol of endpoints":              {"_tcp.db.prod" + zone, "", "", explain.NoData, "", "", "ports of Service prod/db"},
		"protocol without ports":             {"_sctp.reviews.prod" + zone, "", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"protocol of a port without name":    {"_sctp.dual.prod" + zone, "", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"protocol of an alias":               {"_tcp.alias.prod" + zone, "", "", explain.NameError, "", "", "nothing in the mesh claims it"},
		"protocol of the hidden":             {"_tcp.secret.prod" + zone, "", "dev", explain.NameError, "", "", "nothing in the mesh claims it"},
		"SRV outside":                        {"_https._tcp.api.example.com", "", "test", explain.Answered, "SRV 0 100 8443 api.example.com", "ServiceEntry dev/api", "has the port https/tcp"},
		"SRV outside, joined":                {"_https._tcp.api.example.com", "", "prod", explain.Answered, "SRV 0 50 443 api.example.com", "ServiceEntry prod/api, ServiceEntry prod/api-more", "2, which share"},
		"SRV outside, of a host":             {"api.example.com", "SRV", "prod", explain.Answered, "SRV 0 25 443 api.example.com", "ServiceEntry prod/api, ServiceEntry prod/api-more", "4, which share"},
		"SRV outside, no such port":          {"_http._tcp.api.example.com", "SRV", "prod", explain.PassedOn, "", "", "ServiceEntry prod/api has no port http/tcp, only https/tcp, quic/udp"},
		"SRV outside, without underscores":   {"https.tcp.api.example.com", "SRV", "prod", explain.Answered, "SRV 0 100 443 https.tcp.api.example.com", "ServiceEntry prod/wild", "the closest wildcard"},
		"SRV outside, one underscore":        {"_https.tcp.api.example.com", "SRV", "prod", explain.PassedOn, "", "", "_PORT._PROTOCOL.HOST"},
		"SRV outside, any port":              {"_._tcp.api.example.com", "SRV", "prod", explain.PassedOn, "", "", "_PORT._PROTOCOL.HOST"},
		"SRV outside, too short":             {"_https.example", "SRV", "prod", explain.PassedOn, "", "", "_PORT._PROTOCOL.HOST"},
		"SRV outside, of a wildcard":         {"_https._tcp.x.example.com", "SRV", "", explain.Answered, "SRV 0 100 443 x.example.com", "ServiceEntry prod/wild", "has the port https/tcp"},
		"SRV outside, of the hidden":         {"_https._tcp.x.b.example.net", "SRV", "", explain.PassedOn, "", "", "nothing in the mesh claims x.b.example.net"},
		"SRV outside, no address":            {"_https._tcp.www.example.net", "SRV", "", explain.PassedOn, "", "ServiceEntry prod/by-dns", "has no address"},
		"SRV outside, a host, no address":    {"www.example.net", "SRV", "", explain.PassedOn, "", "ServiceEntry prod/by-dns", "has no address"},
		"SRV outside, a host without ports":  {"portless.example.net", "SRV", "", explain.NoData, "", "ServiceEntry prod/portless", "says no port number"},
		"awaited":                            {"late.example.net", "", "", explain.NoData, "", "ServiceEntry prod/late", "has no virtual IP yet"},
		"awaited, SRV":                       {"late.example.net", "SRV", "", explain.NoData, "", "ServiceEntry prod/late", "has no virtual IP yet"},
		"awaited, CNAME":                     {"late.example.net", "CNAME", "", explain.PassedOn, "", "ServiceEntry prod/late", "has no address"},
		"awaited, in the zone":               {"late.prod" + zone, "", "", explain.NoData, "", "ServiceEntry prod/late-inside", "has no virtual IP yet"},
		"awaited, another has an address":    {"half.example.net", "", "", explain.Answered, "A 192.0.2.30", "ServiceEntry prod/half, ServiceEntry prod/half-b", ""},
		"SRV outside, of nothing":            {"_ldap._tcp.corp.example.org", "SRV", "", explain.PassedOn, "", "", "nothing in the mesh claims corp.example.org"},
		"A of a port outside":                {"_https._tcp.api.example.com", "A", "prod", explain.Answered, "A 192.0.2.10", "ServiceEntry prod/wild", "the closest wildcard"},
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

// TestExplainListsWhatMakesAPort shows claims and endpoints with their ports, also where there is no such
// port.
func TestExplainListsWhatMakesAPort(t *testing.T) {
	s := start(t, nil)
	s.apply(mesh()...)
	e := s.explanation(t, "_nope._tcp.reviews.prod.svc.cluster.local", "", "")
	if len(e.Candidates) != 1 || e.Candidates[0].Chosen || !slices.Equal(e.Candidates[0].Claims[0].Ports, []explain.Port{{Name: "http", Protocol: "tcp", Number: 80}, {Name: "dns", Protocol: "udp", Number: 53}}) {
		t.Errorf("candidates of an unknown port = %+v", e.Candidates)
	}
	e = s.explanation(t, "_sql._tcp.db.prod.svc.cluster.local", "", "")
	if len(e.Candidates) != 1 || !e.Candidates[0].Chosen || e.Host != "db.prod.svc.cluster.local" || e.AddressKind != "endpoint" {
		t.Errorf("host %q, addresses %q, candidates %+v", e.Host, e.AddressKind, e.Candidates)
	}
	if len(e.Endpoints) != 3 || !slices.Equal(e.Endpoints[2].Ports, []explain.Port{{Name: "sql", Protocol: "tcp", Number: 3306}}) {
		t.Errorf("endpoints of a port = %+v", e.Endpoints)
	}
	for _, name := range []string{"_nope._tcp.db.prod.svc.cluster.local", "_tcp.db.prod.svc.cluster.local"} {
		if e = s.explanation(t, name, "", ""); len(e.Endpoints) != 0 {
			t.Errorf("%s: got endpoints %+v, want none: it is the name of none", name, e.Endpoints)
		}
	}
	e = s.explanation(t, "_https._tcp.x.b.example.com", "SRV", "dev")
	if len(e.Candidates) != 2 || e.Candidates[0].Chosen || e.Candidates[0].Claims[0].Visible || !e.Candidates[1].Chosen {
		t.Errorf("candidates of a port under two wildcards = %+v", e.Candidates)
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
		"unknown":          {"name=a&ns=b", `parameter "ns": want name, type, namespace, node or address`},
		"twice":            {"name=a&name=b", `"name" is given 2 times`},
		"type":             {"name=a&type=XYZ", `"type" is "XYZ": want A, AAAA, CNAME, PTR or SRV, or nothing`},
		"namespace":        {"name=a&namespace=a.b", `"namespace" is "a.b": want the name of a namespace`},
		"address":          {"name=a&address=vm", `"address" is "vm": want the IP address of the VM`},
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
	for _, seed := range []string{"name=a.b", "name=1.0.0.10.in-addr.arpa&type=ptr", "name=*.a&namespace=prod", "name=::1", "name=a%2eb&type=AAAA", "name=_a._b.c", "name=_._..&type=srv"} {
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
