package main

import (
	"encoding/binary"
	"fmt"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// privateShare: one service in so many is visible to one namespace only.
const privateShare = 10

func viewName(i int) string { return fmt.Sprintf("team-%d", i) }

// numberedService is service i as it is after so many changes of the registry: a Kubernetes Service with
// a cluster IP and two ports, as most are.
func numberedService(i, change, views int) registry.Update {
	namespace, name := fmt.Sprintf("shop-%d", i/20), fmt.Sprintf("reviews-%d", i)
	visibility := registry.Public()
	if private(i) {
		visibility = registry.VisibleTo(viewName(i / privateShare % views))
	}
	// No two changes less than 2^24 apart yield one address.
	var address [4]byte
	binary.BigEndian.PutUint32(address[:], uint32(i)*31+uint32(change)*65537)
	address[0] = 10
	return registry.Update{
		Object: registry.Object{Kind: "Service", Namespace: namespace, Name: name},
		Resources: []registry.Resource{{
			Key: registryv1.ServiceKey("", namespace, name), Visibility: visibility,
			Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: &registryv1.Service{
				Host:        name + "." + namespace + ".svc.cluster.local",
				Namespace:   namespace,
				Name:        name,
				Origin:      registryv1.Origin_ORIGIN_KUBERNETES,
				Addresses:   [][]byte{address[:]},
				AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
				Ports: []*registryv1.Port{
					{Name: "http", Number: 80, Protocol: registryv1.Protocol_PROTOCOL_TCP, Target: 8080},
					{Name: "grpc", Number: 9090, Protocol: registryv1.Protocol_PROTOCOL_TCP, Target: 9090},
				},
				CreatedAt: 1_700_000_000 + int64(i),
			}}},
		}},
	}
}

func private(i int) bool { return i%privateShare == privateShare-1 }

// changedService is what the registry's change number count changes: a service that every VM sees.
func changedService(count, services int) int {
	const stride = 7919 // a prime, so that neighbours in time are none in the registry
	i := count * stride % services
	if private(i) {
		i--
	}
	return i
}
