package mirror

import (
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// What tests build registries of.

const (
	testGeneration = "generation-1"
	testView       = "prod"
	testDomain     = "cluster.local"
)

// replace is a Change to the given content.
func replace(to uint64, resources ...*registryv1.Resource) Change {
	return Change{
		Generation: testGeneration, View: testView, ClusterDomain: testDomain,
		Replace: true, To: to, Upserts: resources,
	}
}

// delta is a Change that follows on from a State.
func delta(s *State, removals []string, upserts ...*registryv1.Resource) Change {
	return Change{
		Generation: s.generation, View: s.view, ClusterDomain: s.clusterDomain,
		From: s.revision, To: s.revision + 1, Upserts: upserts, Removals: removals,
	}
}

// loaded is a mirror that holds the resources, at revision 1.
func loaded(t testing.TB, resources ...*registryv1.Resource) *Mirror {
	t.Helper()
	m := New(Options{TTL: 30, EndpointTTL: 5})
	mustApply(t, m, replace(1, resources...))
	return m
}

func mustApply(t testing.TB, m *Mirror, c Change) {
	t.Helper()
	if err := m.Apply(c); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

// resourceOf encodes a body as the syncer does.
func resourceOf(key string, body *registryv1.Body) *registryv1.Resource {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &registryv1.Resource{Key: key, Body: encoded}
}

func serviceResource(key string, s *registryv1.Service) *registryv1.Resource {
	return resourceOf(key, &registryv1.Body{Body: &registryv1.Body_Service{Service: s}})
}

func encodedAddresses(texts ...string) [][]byte {
	var encoded [][]byte
	for _, text := range texts {
		encoded = append(encoded, netip.MustParseAddr(text).AsSlice())
	}
	return encoded
}

func kubernetesService(namespace, name string, clusterIPs ...string) *registryv1.Resource {
	return serviceResource(registryv1.ServiceKey("", namespace, name), &registryv1.Service{
		Host:        name + "." + namespace + ".svc." + testDomain,
		Namespace:   namespace,
		Name:        name,
		Origin:      registryv1.Origin_ORIGIN_KUBERNETES,
		Addresses:   encodedAddresses(clusterIPs...),
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
		Ports:       []*registryv1.Port{{Name: "http", Number: 80, Protocol: registryv1.Protocol_PROTOCOL_TCP, Target: 8080}},
		CreatedAt:   1700000000,
	})
}

func headlessService(namespace, name string) *registryv1.Resource {
	return serviceResource(registryv1.ServiceKey("", namespace, name), &registryv1.Service{
		Host:      name + "." + namespace + ".svc." + testDomain,
		Namespace: namespace,
		Name:      name,
		Origin:    registryv1.Origin_ORIGIN_KUBERNETES,
		Headless:  true,
	})
}

// entry is a ServiceEntry's claim of a host, to be varied.
func entry(namespace, name, host string, addresses ...string) *registryv1.Service {
	return &registryv1.Service{
		Host:        host,
		Namespace:   namespace,
		Name:        name,
		Origin:      registryv1.Origin_ORIGIN_SERVICE_ENTRY,
		Addresses:   encodedAddresses(addresses...),
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_LITERAL,
	}
}

func entryResource(s *registryv1.Service) *registryv1.Resource {
	return serviceResource(registryv1.ServiceEntryKey(s.GetCluster(), s.GetNamespace(), s.GetName(), s.GetHost()), s)
}

func serviceEntry(namespace, name, host string, addresses ...string) *registryv1.Resource {
	return entryResource(entry(namespace, name, host, addresses...))
}

func endpointSlice(namespace, name, service string, endpoints ...*registryv1.Endpoint) *registryv1.Resource {
	return resourceOf(registryv1.EndpointSliceKey("", namespace, name), &registryv1.Body{Body: &registryv1.Body_EndpointSlice{
		EndpointSlice: &registryv1.EndpointSlice{Namespace: namespace, Name: name, Service: service, Endpoints: endpoints},
	}})
}

func ready(hostname string, addresses ...string) *registryv1.Endpoint {
	return &registryv1.Endpoint{Hostname: hostname, Addresses: encodedAddresses(addresses...), Ready: true, Serving: true}
}

func notReady(hostname string, addresses ...string) *registryv1.Endpoint {
	return &registryv1.Endpoint{Hostname: hostname, Addresses: encodedAddresses(addresses...), Serving: true}
}

func namespaceResource(name string) *registryv1.Resource {
	return resourceOf(registryv1.NamespaceKey("", name), &registryv1.Body{Body: &registryv1.Body_Namespace{
		Namespace: &registryv1.Namespace{Name: name},
	}})
}
