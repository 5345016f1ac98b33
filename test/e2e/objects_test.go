package e2e

import (
	"fmt"
	"strings"
)

// documents joins manifests into one file.
func documents(manifests ...string) string { return strings.Join(manifests, "---\n") }

// namespace is the manifest of a Namespace.
func namespace(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", name)
}

// service is the manifest of a Service with cluster IPs and the port http. object is NAME.NAMESPACE.
func service(object string, addresses ...string) string {
	name, space, _ := strings.Cut(object, ".")
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec: {clusterIP: %q, clusterIPs: ["%s"], ports: [{name: http, port: 80}]}
`, name, space, addresses[0], strings.Join(addresses, `", "`))
}

// headless is the manifest of a Service without a cluster IP.
func headless(object string) string {
	name, space, _ := strings.Cut(object, ".")
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: sql, port: 3306}]}
`, name, space)
}

// slice is the manifest of ready endpoints of a headless Service, ADDRESS or HOSTNAME=ADDRESS each.
func slice(object string, number int, family string, endpoints ...string) string {
	name, space, _ := strings.Cut(object, ".")
	var text strings.Builder
	fmt.Fprintf(&text, `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %s-%s-%d
  namespace: %s
  labels: {kubernetes.io/service-name: %s, service.kubernetes.io/headless: ""}
addressType: %s
ports: [{name: sql, port: 3306, protocol: TCP}]
endpoints:
`, name, strings.ToLower(family), number, space, name, family)
	for _, endpoint := range endpoints {
		hostname, address, named := strings.Cut(endpoint, "=")
		if !named {
			fmt.Fprintf(&text, "- {addresses: [%q], conditions: {ready: true}}\n", endpoint)
			continue
		}
		fmt.Fprintf(&text, "- {addresses: [%q], hostname: %s, conditions: {ready: true}}\n", address, hostname)
	}
	return text.String()
}

// externalName is the manifest of a Service that is an alias.
func externalName(object, target string) string {
	name, space, _ := strings.Cut(object, ".")
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec: {type: ExternalName, externalName: %s}\n",
		name, space, target)
}

// serviceEntry is the manifest of a host outside the cluster, with the port tls.
func serviceEntry(object, host string, addresses ...string) string {
	name, space, _ := strings.Cut(object, ".")
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: %s}
spec:
  hosts: [%q]
  addresses: [%s]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{number: 443, name: tls, protocol: TLS}]
`, name, space, host, strings.Join(addresses, ", "))
}

// town is a registry with something of everything.
func town() string {
	return documents(
		namespace("prod"), namespace("vm"), namespace("empty"),
		service("reviews.prod", "10.96.0.10", "fd00:96::10"),
		service("old.prod", "10.96.0.11"),
		service("local.vm", "10.96.0.12"),
		headless("db.prod"),
		slice("db.prod", 1, "IPv4", "db-0=10.244.0.1", "10.244.0.2"),
		serviceEntry("api.prod", "api.shop.example.com", "240.240.0.1"),
		serviceEntry("wild.prod", "*.wild.shop.example.com", "240.240.0.2"),
		externalName("www.prod", "www.example.org"),
		externalName("first.prod", "second.prod.svc.cluster.local"),
		externalName("second.prod", "third.prod.svc.cluster.local"),
		externalName("third.prod", "reviews.prod.svc.cluster.local"),
		externalName("mixed.prod", "www.prod.svc.cluster.local"),
		externalName("shop.prod", "api.shop.example.com"),
		externalName("circle.prod", "around.prod.svc.cluster.local"),
		externalName("around.prod", "circle.prod.svc.cluster.local"),
		externalName("self.prod", "self.prod.svc.cluster.local"),
		externalName("invalid.prod", "nobody.invalid"),
		externalName("missing.prod", "nobody.prod.svc.cluster.local"),
	)
}

// crowdSize is the number of endpoints of each Service of crowd.
const crowdSize = 1000

// crowd is headless Services whose answers do not fit into a datagram: one for each family, in slices as
// large as Kubernetes makes them.
func crowd() string {
	manifests := []string{headless("crowd.prod"), headless("crowd6.prod")}
	const perSlice = 100
	for number := range crowdSize / perSlice {
		var four, six []string
		for i := range perSlice {
			four = append(four, crowdAddress(number*perSlice+i))
			six = append(six, crowdAddress6(number*perSlice+i))
		}
		manifests = append(manifests, slice("crowd.prod", number, "IPv4", four...), slice("crowd6.prod", number, "IPv6", six...))
	}
	return documents(manifests...)
}

func crowdAddress(i int) string { return fmt.Sprintf("10.245.%d.%d", i/250, 1+i%250) }

func crowdAddress6(i int) string { return fmt.Sprintf("fd00::%x", 1+i) }
