package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// mesh is a registry of a size, as manifests: of ten Services five have a cluster IP and two ports, three
// a cluster IP and one port, one is headless with a slice of three endpoints, and one is the host of a
// ServiceEntry. Twenty share a namespace.
type mesh struct {
	folder string
	size   int
}

// perFile is how many services one manifest holds.
const perFile = 1000

// write writes the whole mesh.
func (m mesh) write() error {
	if err := os.Mkdir(m.folder, 0o700); err != nil {
		return err
	}
	for first := 0; first < m.size; first += perFile {
		if err := m.writeFile(first, 0); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes the manifest of the services from first on, in a version: another one has other
// addresses. It takes the old manifest's place as a whole.
func (m mesh) writeFile(first int, version byte) error {
	var text strings.Builder
	for i := first; i < min(first+perFile, m.size); i++ {
		m.service(&text, i, version)
	}
	path := filepath.Join(m.folder, fmt.Sprintf("services-%d.yaml", first))
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (m mesh) service(text *strings.Builder, i int, version byte) {
	if i%20 == 0 {
		fmt.Fprintf(text, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team-%d}\n", i/20)
	}
	object := func(version, kind, labels, spec string) {
		fmt.Fprintf(text, "---\napiVersion: %s\nkind: %s\nmetadata: {name: reviews-%d, namespace: team-%d%s}\n%s\n", version, kind, i, i/20, labels, spec)
	}
	address := m.address(i, version)
	switch kind := i % 10; {
	case kind < 5:
		object("v1", "Service", "", fmt.Sprintf("spec: {clusterIP: %s, ports: [{name: http, port: 80}, {name: metrics, port: 9090}]}", address))
	case kind < 8:
		object("v1", "Service", "", fmt.Sprintf("spec: {clusterIP: %s, ports: [{name: grpc, port: 8443}]}", address))
	case kind == 8:
		object("v1", "Service", "", "spec: {clusterIP: None, selector: {app: reviews}, ports: [{name: sql, port: 5432}]}")
		var endpoints []string
		for n := range 3 {
			endpoint := netip.AddrFrom4([4]byte{172 + version, byte(i >> 14), byte(i >> 6), byte(i<<2) + byte(n)})
			endpoints = append(endpoints, fmt.Sprintf("{addresses: [%s], hostname: reviews-%d-%d, nodeName: node-%d, conditions: {ready: true}}", endpoint, i, n, i%1000))
		}
		object("discovery.k8s.io/v1", "EndpointSlice",
			fmt.Sprintf(", labels: {kubernetes.io/service-name: reviews-%d, service.kubernetes.io/headless: \"\"}", i),
			fmt.Sprintf("addressType: IPv4\nports: [{name: sql, port: 5432}]\nendpoints: [%s]", strings.Join(endpoints, ", ")))
	default:
		object("networking.istio.io/v1", "ServiceEntry", "", fmt.Sprintf(
			"spec: {hosts: [%s], addresses: [%s], location: MESH_EXTERNAL, resolution: DNS, ports: [{name: https, number: 443, protocol: TLS}]}",
			m.name(i), address))
	}
}

// name is the host of a service.
func (m mesh) name(i int) string {
	if i%10 == 9 {
		return fmt.Sprintf("reviews-%d.team-%d.example.com", i, i/20)
	}
	return fmt.Sprintf("reviews-%d.team-%d.svc.cluster.local", i, i/20)
}

// address is what a service's name answers that is not headless.
func (m mesh) address(i int, version byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10 + version, byte(i >> 16), byte(i >> 8), byte(i)})
}
