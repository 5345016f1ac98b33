package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// longest is a label of the greatest length, by a letter.
func longest(letter string) string { return strings.Repeat(letter, 63) }

// The names that objects get. Some are words that mean something elsewhere in a name.
var (
	// lastingNamespaces are there for all seeds: namespaces of a cluster come and go rarely.
	lastingNamespaces = []string{"prod", "stage", "svc", "pod", "7", longest("n"), "vacant"}
	serviceNames      = []string{
		"reviews", "ratings", "details", "cart", "db", "cache", "queue", "web", "api", "auth", "search", "mail", "x", "a-b-c",
		"svc", "pod", "dns", "ns", "tcp", "http", "cluster", "local", "dns-version", longest("s"),
	}
	hostnames = []string{"db-0", "db-1", "db-2", "web", "tcp", "http", "svc", "10-244-0-1", "0", longest("h")}
	portNames = []string{"http", "https", "grpc", "dns", "dns-tcp", "sip", "metrics", "a", "fifteen-letters"}
	protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
)

// generator makes up the objects of one seed. What it makes is what clusters have: EndpointSlices are as
// Kubernetes' own controller would write them.
type generator struct {
	*rand.Rand
	seed uint64
	// slices counts the slices made, for their names.
	slices int
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0x6d657368766d)), seed: seed}
}

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// chance is true so many times in a hundred.
func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// freshNamespaces are the seed's own namespaces; the last stays empty.
func (g *generator) freshNamespaces() []string {
	return []string{fmt.Sprintf("fresh-%d-a", g.seed), fmt.Sprintf("fresh-%d-b", g.seed), fmt.Sprintf("fresh-%d-empty", g.seed)}
}

func namespaceNamed(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// objects is what a seed begins with: so many Services, and the slices that belong to them, in no order.
func (g *generator) objects(services int) []change {
	fresh := g.freshNamespaces()
	namespaces := slices.Concat(lastingNamespaces[:len(lastingNamespaces)-1], fresh[:len(fresh)-1])
	taken := map[objectName]bool{}
	var changes []change
	for len(taken) < services {
		name := objectName{pick(g, namespaces), pick(g, serviceNames)}
		if taken[name] {
			continue
		}
		taken[name] = true
		changes = append(changes, g.serviceAndSlices(name)...)
	}
	// Slices whose Service is gone, as for a moment after its deletion.
	for range 2 {
		changes = append(changes, create(g.slice(objectName{pick(g, namespaces), "gone"}, nil, true)))
	}
	for _, alias := range g.chains() {
		changes = append(changes, create(alias))
	}
	g.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	return changes
}

// chains is aliases that lead to each other: as many in a row as may be, one more, and in
// circles. For a circle through both of the cluster's zones see testLoopAcrossZones.
func (g *generator) chains() []*corev1.Service {
	namespace := g.freshNamespaces()[1]
	host := func(name string, number int) string {
		return fmt.Sprintf("%s-%d.%s.svc.cluster.local", name, number, namespace)
	}
	var aliases []*corev1.Service
	add := func(name string, number int, target string) {
		aliases = append(aliases, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, number)},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: target},
		})
	}
	add("chain", 0, pick(g, []string{"both.outside.test", "kubernetes.default.svc.cluster.local"}))
	for number := range maxAliases {
		add("chain", number+1, host("chain", number))
	}
	add("self", 0, host("self", 0))
	for number := range 3 {
		add("circle", number, host("circle", (number+1)%3))
	}
	add("into", 0, host("circle", 0))
	return aliases
}

func (g *generator) serviceAndSlices(name objectName) []change {
	service := g.service(name)
	changes := []change{create(service)}
	for _, slice := range g.slicesOf(service) {
		changes = append(changes, create(slice))
	}
	return changes
}

// service is a Service of any kind.
func (g *generator) service(name objectName) *corev1.Service {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name.namespace, Name: name.name}}
	switch kind := g.IntN(100); {
	case kind < 45:
		service.Spec = g.headlessSpec()
	case kind < 80:
		service.Spec = g.clusterSpec()
	default:
		service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: g.externalName(name)}
	}
	return service
}

func (g *generator) clusterSpec() corev1.ServiceSpec {
	spec := corev1.ServiceSpec{Ports: g.servicePorts(1)}
	if g.chance(20) {
		spec.Type = corev1.ServiceTypeNodePort
	}
	g.families(&spec)
	if g.chance(60) {
		spec.Selector = map[string]string{"app": "any"}
	}
	return spec
}

func (g *generator) headlessSpec() corev1.ServiceSpec {
	spec := corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: g.servicePorts(0), PublishNotReadyAddresses: g.chance(20)}
	g.families(&spec)
	if g.chance(70) {
		spec.Selector = map[string]string{"app": "any"}
	}
	return spec
}

func (g *generator) families(spec *corev1.ServiceSpec) {
	policies := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack}
	if g.chance(75) {
		policy := pick(g, policies)
		spec.IPFamilyPolicy = &policy
	}
	if g.chance(30) {
		spec.IPFamilies = []corev1.IPFamily{pick(g, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol})}
	}
}

// servicePorts is at least so many ports. A Service with more than one names them all.
func (g *generator) servicePorts(least int) []corev1.ServicePort {
	count := max(least, pick(g, []int{0, 1, 1, 1, 2, 2, 3}))
	names := g.Perm(len(portNames))
	var ports []corev1.ServicePort
	taken := map[string]bool{}
	for len(ports) < count {
		port := corev1.ServicePort{
			Protocol: pick(g, protocols),
			Port:     pick(g, []int32{80, 53, 443, 8080, 1, 65535}),
		}
		if len(ports) > 0 && g.chance(40) {
			port.Port = ports[0].Port // as DNS has it over TCP and UDP
		}
		key := fmt.Sprint(port.Port, port.Protocol)
		if taken[key] {
			continue
		}
		taken[key] = true
		if count > 1 || g.chance(60) {
			port.Name = portNames[names[len(ports)]]
		}
		if g.chance(30) {
			port.TargetPort = intstr.FromInt32(9000 + int32(len(ports)))
		}
		ports = append(ports, port)
	}
	return ports
}

// externalName is a target: outside, in the zone and there, in the zone and not there, an IP address. A
// target is of an earlier name than the alias, so that there is no loop.
func (g *generator) externalName(of objectName) string {
	switch g.IntN(10) {
	case 0, 1:
		return pick(g, []string{"both.outside.test", "four.outside.test", "six.outside.test", "alias.outside.test", "sip.outside.test", "missing.outside.test"})
	case 2:
		return pick(g, []string{"192.0.2.99", "10.96.0.1"})
	case 3:
		return pick(g, []string{
			"svc.cluster.local", "cluster.local", "dns-version.cluster.local", "ns.dns.cluster.local", "prod.svc.cluster.local",
			"1-2-3-4.prod.pod.cluster.local", "absent.prod.svc.cluster.local", "kubernetes.default.svc.cluster.local",
			"https.tcp.kubernetes.default.svc.cluster.local", "prod.svc.mesh.example.org", "absent.prod.svc.mesh.example.org",
			"kubernetes.default.svc.mesh.example.org", "below." + of.name + "." + of.namespace + ".svc.cluster.local",
			"1.0.96.10.in-addr.arpa", "absent.svc.prod", "prod",
		})
	}
	for range 10 {
		target := objectName{pick(g, lastingNamespaces), pick(g, serviceNames)}
		if target.namespace+"/"+target.name >= of.namespace+"/"+of.name {
			continue
		}
		host := target.name + "." + target.namespace + ".svc." + pick(g, []string{"cluster.local", "cluster.local", "mesh.example.org"})
		switch g.IntN(6) {
		case 0:
			host = pick(g, hostnames) + "." + host
		case 1:
			host = pick(g, portNames) + ".tcp." + host
		}
		return host
	}
	return "both.outside.test"
}

// slicesOf is the slices that a Service has.
func (g *generator) slicesOf(service *corev1.Service) []*discoveryv1.EndpointSlice {
	name := objectName{service.Namespace, service.Name}
	headless := service.Spec.ClusterIP == corev1.ClusterIPNone
	var made []*discoveryv1.EndpointSlice
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName:
	case headless:
		// Nobody labels the slices that people make where there is no selector.
		labelled := len(service.Spec.Selector) > 0 || g.chance(50)
		for range pick(g, []int{0, 1, 1, 1, 2, 2, 3}) {
			made = append(made, g.slice(name, service.Spec.Ports, labelled))
		}
		if len(made) > 1 && g.chance(30) {
			g.share(made[0], made[1])
		}
	case g.chance(50):
		made = append(made, g.slice(name, service.Spec.Ports, false))
	}
	for _, slice := range made {
		if !service.Spec.PublishNotReadyAddresses {
			continue
		}
		for i := range slice.Endpoints {
			ready, serving := true, g.chance(50)
			slice.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving}
		}
	}
	return made
}

// share has an endpoint of one slice in another as well, by its hostname, with other ports, as people who
// make slices may.
func (g *generator) share(from, to *discoveryv1.EndpointSlice) {
	if len(from.Endpoints) == 0 {
		return
	}
	shared := g.endpoint(to.AddressType)
	shared.Hostname = new(pick(g, hostnames))
	from.Endpoints[0].Hostname = shared.Hostname
	to.Endpoints = append(to.Endpoints, shared)
	to.Ports = g.slicePorts(g.servicePorts(0))
}

// slice is a slice of a Service with these ports.
func (g *generator) slice(of objectName, ports []corev1.ServicePort, headless bool) *discoveryv1.EndpointSlice {
	g.slices++
	name := of.name[:min(len(of.name), 40)]
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: of.namespace, Name: fmt.Sprintf("%s-%d", name, g.slices), Labels: sliceLabels(of.name, headless)},
		AddressType: pick(g, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}),
		Ports:       g.slicePorts(ports),
	}
	for range pick(g, []int{0, 1, 1, 2, 3, 4}) {
		slice.Endpoints = append(slice.Endpoints, g.endpoint(slice.AddressType))
	}
	return slice
}

// slicePorts is the ports of a Service as its slices have them: numbers are of the pods. Some slices are
// of their own mind, as those that users write.
func (g *generator) slicePorts(of []corev1.ServicePort) []discoveryv1.EndpointPort {
	if g.chance(15) {
		of = g.servicePorts(0)
	}
	var ports []discoveryv1.EndpointPort
	for _, port := range of {
		number := port.Port
		if port.TargetPort.IntVal != 0 {
			number = port.TargetPort.IntVal
		}
		made := discoveryv1.EndpointPort{Name: new(port.Name), Protocol: new(port.Protocol), Port: &number}
		if g.chance(3) {
			made.Port = nil // any port whatever
		}
		ports = append(ports, made)
	}
	return ports
}

func (g *generator) endpoint(family discoveryv1.AddressType) discoveryv1.Endpoint {
	endpoint := discoveryv1.Endpoint{Addresses: []string{g.address(family)}, Conditions: g.conditions()}
	if g.chance(5) {
		endpoint.Addresses = append(endpoint.Addresses, g.address(family))
	}
	if g.chance(40) {
		endpoint.Hostname = new(pick(g, hostnames))
	}
	if g.chance(50) {
		endpoint.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprintf("pod-%d", g.IntN(10))}
	}
	return endpoint
}

// conditions is what the controller says of a pod that is ready, not ready, or terminating.
func (g *generator) conditions() discoveryv1.EndpointConditions {
	switch g.IntN(10) {
	case 0:
		return discoveryv1.EndpointConditions{}
	case 1:
		return discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(false)}
	case 2:
		return discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	}
	return discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)}
}

// address is one of few, so that Services share pods. A few are in none of the zones.
func (g *generator) address(family discoveryv1.AddressType) string {
	if family == discoveryv1.AddressTypeIPv6 {
		return pick(g, []string{
			fmt.Sprintf("fd00:10:244::%x", 1+g.IntN(60)),
			fmt.Sprintf("fd00:10:244:0:%x::", 1+g.IntN(20)),
			fmt.Sprintf("fd00:10:244:0:1:2:3:%x", 1+g.IntN(20)),
			fmt.Sprintf("2001:db8:1::%x", 1+g.IntN(10)),
		})
	}
	if g.chance(10) {
		return fmt.Sprintf("192.168.5.%d", 1+g.IntN(10))
	}
	return fmt.Sprintf("10.244.%d.%d", g.IntN(3), 1+g.IntN(50))
}
