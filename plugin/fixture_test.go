package meshvm

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func init() { clog.Discard() }

const (
	kubernetes = registryv1.Origin_ORIGIN_KUBERNETES
	entry      = registryv1.Origin_ORIGIN_SERVICE_ENTRY
)

// mesh is the registry that the tests of answers ask.
func mesh() []*registryv1.Resource {
	return []*registryv1.Resource{
		namespace("prod"), namespace("empty"),
		withPorts(service("reviews", "prod", "10.96.0.10", "fd00::10"), tcp("http", 80), tcp("metrics", 9090), udp("", 53)),
		service("v4only", "prod", "10.96.0.11"),
		service("none", "prod"),
		service("short", "vm", "10.96.0.12"),
		headless("db", "prod"),
		withPorts(slice("db-1", "db", "prod",
			&registryv1.Endpoint{Addresses: addresses("10.0.0.1"), Hostname: "db-0", Ready: true},
			&registryv1.Endpoint{Addresses: addresses("10.0.0.2"), Ready: true},
			&registryv1.Endpoint{Addresses: addresses("10.0.0.3"), Hostname: "db-3"}), tcp("sql", 3306), tcp("metrics", 9104)),
		withPorts(slice("db-2", "db", "prod",
			&registryv1.Endpoint{Addresses: addresses("fd01::1"), Hostname: "db-0", Ready: true}), tcp("sql", 3306)),
		headless("idle", "prod"),
		headless("mixed", "prod"),
		withPorts(slice("mixed-1", "mixed", "prod",
			&registryv1.Endpoint{Addresses: addresses("10.0.0.7"), Hostname: "svc", Ready: true},
			&registryv1.Endpoint{Addresses: addresses("10.0.0.8"), Hostname: "web", Ready: true}), tcp("", 0)),
		withPorts(slice("mixed-2", "mixed", "prod",
			&registryv1.Endpoint{Addresses: addresses("10.0.0.8"), Hostname: "web", Ready: true}), tcp("https", 443)),
		headless("vms", "prod"),
		withPorts(slice("vms-1", "vms", "prod",
			&registryv1.Endpoint{Addresses: addresses("10.0.3.5", "fd03::5"), Name: "group-10.0.3.5", Ready: true},
			&registryv1.Endpoint{Addresses: addresses("10.0.3.6"), Name: "group-10.0.3.6"}), tcp("ssh", 22)),
		externalName("ext", "prod", "target.example.net"),
		externalName("first", "prod", "second.prod.svc.cluster.local"),
		externalName("second", "prod", "reviews.prod.svc.cluster.local"),
		externalName("lost", "prod", "nope.prod.svc.cluster.local"),
		externalName("circle", "prod", "round.prod.svc.cluster.local"),
		externalName("round", "prod", "circle.prod.svc.cluster.local"),
		withPorts(serviceEntry("api", "api.example.com", "240.240.0.1"), tcp("https", 443)),
		serviceEntry("bare", "bare.example.com"),
		serviceEntry("exact", "exact.wild.example.com", "240.240.0.2"),
		withPorts(serviceEntry("wild", "*.wild.example.com", "240.240.0.3"), tcp("tls", 443)),
		serviceEntry("deep", "*.deep.wild.example.com", "240.240.0.4", "2001:2::4"),
		withPorts(serviceEntry("inside", "legacy.prod.svc.cluster.local", "240.240.0.5"), tcp("http", 8080)),
		serviceEntry("insidebare", "pending.prod.svc.cluster.local"),
		serviceEntry("single", "vault", "240.240.0.6"),
	}
}

func addresses(texts ...string) [][]byte {
	all := make([][]byte, 0, len(texts))
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text).AsSlice())
	}
	return all
}

func resource(key string, body *registryv1.Body) *registryv1.Resource {
	encoded, err := proto.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &registryv1.Resource{Key: key, Body: encoded}
}

func serviceResource(key string, s *registryv1.Service) *registryv1.Resource {
	return resource(key, &registryv1.Body{Body: &registryv1.Body_Service{Service: s}})
}

func service(name, namespace string, ips ...string) *registryv1.Resource {
	return serviceResource(registryv1.ServiceKey("", namespace, name), &registryv1.Service{
		Host: name + "." + namespace + ".svc.cluster.local", Namespace: namespace, Name: name, Origin: kubernetes,
		Addresses: addresses(ips...), AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
	})
}

func headless(name, namespace string) *registryv1.Resource {
	return serviceResource(registryv1.ServiceKey("", namespace, name), &registryv1.Service{
		Host: name + "." + namespace + ".svc.cluster.local", Namespace: namespace, Name: name, Origin: kubernetes, Headless: true,
	})
}

func externalName(name, namespace, target string) *registryv1.Resource {
	return serviceResource(registryv1.ServiceKey("", namespace, name), &registryv1.Service{
		Host: name + "." + namespace + ".svc.cluster.local", Namespace: namespace, Name: name, Origin: kubernetes, ExternalName: target,
	})
}

func serviceEntry(name, host string, ips ...string) *registryv1.Resource {
	return serviceResource(registryv1.ServiceEntryKey("", "mesh", name, host), &registryv1.Service{
		Host: host, Namespace: "mesh", Name: name, Origin: entry,
		Addresses: addresses(ips...), AddressKind: registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP,
	})
}

func slice(name, service, namespace string, endpoints ...*registryv1.Endpoint) *registryv1.Resource {
	return resource(registryv1.EndpointSliceKey("", namespace, name), &registryv1.Body{Body: &registryv1.Body_EndpointSlice{
		EndpointSlice: &registryv1.EndpointSlice{Namespace: namespace, Name: name, Service: service, Endpoints: endpoints},
	}})
}

// withPorts is a Service or an EndpointSlice with ports.
func withPorts(r *registryv1.Resource, ports ...*registryv1.Port) *registryv1.Resource {
	body := &registryv1.Body{}
	if err := proto.Unmarshal(r.GetBody(), body); err != nil {
		panic(err)
	}
	switch {
	case body.GetService() != nil:
		body.GetService().Ports = ports
	default:
		body.GetEndpointSlice().Ports = ports
	}
	return resource(r.GetKey(), body)
}

func tcp(name string, number uint32) *registryv1.Port {
	return &registryv1.Port{Name: name, Number: number, Protocol: registryv1.Protocol_PROTOCOL_TCP}
}

func udp(name string, number uint32) *registryv1.Port {
	return &registryv1.Port{Name: name, Number: number, Protocol: registryv1.Protocol_PROTOCOL_UDP}
}

func namespace(name string) *registryv1.Resource {
	return resource(registryv1.NamespaceKey("", name), &registryv1.Body{Body: &registryv1.Body_Namespace{
		Namespace: &registryv1.Namespace{Name: name},
	}})
}

func defaultConfig() *Config {
	return &Config{
		Zones: []string{DefaultZone}, MaxStale: DefaultMaxStale,
		TTL: DefaultTTL, EndpointTTL: DefaultEndpointTTL,
	}
}

// next is what stands behind the plugin in tests: it answers NOTIMP, so that a query that was passed
// on is told from every answer of the plugin.
var next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	reply := new(dns.Msg)
	reply.SetRcode(r, dns.RcodeNotImplemented)
	return dns.RcodeSuccess, w.WriteMsg(reply)
})

// serving is an instance of the plugin that answers from resources. Nil resources: nothing is loaded.
func serving(tb testing.TB, config *Config, resources []*registryv1.Resource) *Meshvm {
	tb.Helper()
	m := newMeshvm(config)
	m.Next, m.recursive = next, true
	m.follower = &follower{
		mirror: mirror.New(mirror.Options{TTL: DefaultTTL, EndpointTTL: DefaultEndpointTTL}),
		log:    slog.New(slog.DiscardHandler),
	}
	if resources == nil {
		return m
	}
	err := m.follower.mirror.Apply(mirror.Change{
		Generation: "test", View: "vm", ClusterDomain: "cluster.local", To: 1, Replace: true, Upserts: resources,
	})
	if err != nil {
		tb.Fatalf("Apply: %v", err)
	}
	m.follower.mirror.Confirm(time.Now())
	return m
}
