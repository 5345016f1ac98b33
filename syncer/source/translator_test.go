package source

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// render writes a resource in one line, so that tables read as a specification.
func render(resource registry.Resource) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s:", resource.Key, resource.Visibility)
	ports := func(ports []*registryv1.Port) {
		for _, p := range ports {
			fmt.Fprintf(&b, " %s/%s/%d", p.GetName(), strings.TrimPrefix(p.GetProtocol().String(), "PROTOCOL_"), p.GetNumber())
			if p.GetTarget() != p.GetNumber() {
				fmt.Fprintf(&b, ">%d", p.GetTarget())
			}
		}
	}
	address := func(encoded []byte) string {
		a, ok := netip.AddrFromSlice(encoded)
		if !ok {
			return fmt.Sprintf("%x", encoded)
		}
		return a.String()
	}
	switch body := resource.Body.GetBody().(type) {
	case *registryv1.Body_Service:
		s := body.Service
		fmt.Fprintf(&b, " %s (%s/%s)", s.GetHost(), s.GetNamespace(), s.GetName())
		if s.GetHeadless() {
			b.WriteString(" headless")
		}
		if s.GetExternalName() != "" {
			b.WriteString(" CNAME " + s.GetExternalName())
		}
		if len(s.GetAddresses()) > 0 || s.GetAddressKind() == registryv1.AddressKind_ADDRESS_KIND_PENDING {
			b.WriteString(" " + strings.TrimPrefix(s.GetAddressKind().String(), "ADDRESS_KIND_"))
		}
		for _, a := range s.GetAddresses() {
			b.WriteString(" " + address(a))
		}
		ports(s.GetPorts())
		if s.GetDerived() {
			b.WriteString(" derived")
		}
		if s.GetCreatedAt() != 0 {
			fmt.Fprintf(&b, " since %d", s.GetCreatedAt())
		}
	case *registryv1.Body_EndpointSlice:
		s := body.EndpointSlice
		fmt.Fprintf(&b, " of %s/%s", s.GetNamespace(), s.GetService())
		for _, e := range s.GetEndpoints() {
			b.WriteString(" {")
			for _, a := range e.GetAddresses() {
				b.WriteString(address(a) + " ")
			}
			fmt.Fprintf(&b, "%q", cmp.Or(e.GetName(), e.GetHostname()))
			if e.GetName() != "" {
				b.WriteString(" N")
			}
			if e.GetReady() {
				b.WriteString(" R")
			}
			if e.GetServing() {
				b.WriteString(" S")
			}
			if e.GetTerminating() {
				b.WriteString(" T")
			}
			if e.GetZone() != "" || e.GetNode() != "" {
				fmt.Fprintf(&b, " %s/%s", e.GetZone(), e.GetNode())
			}
			b.WriteString("}")
		}
		ports(s.GetPorts())
	case *registryv1.Body_Namespace:
		b.WriteString(" namespace " + body.Namespace.GetName())
	}
	return b.String()
}

func objectOf(state metav1.Object) registry.Object {
	object := registry.Object{Namespace: state.GetNamespace(), Name: state.GetName()}
	switch state.(type) {
	case *corev1.Service:
		object.Kind = KindService
	case *discoveryv1.EndpointSlice:
		object.Kind = KindEndpointSlice
	case *corev1.Namespace:
		object.Kind = KindNamespace
	case *networkingv1.ServiceEntry:
		object.Kind = KindServiceEntry
	case *networkingv1.WorkloadEntry:
		object.Kind = KindWorkloadEntry
	case *corev1.Pod:
		object.Kind = KindPod
	}
	return object
}

func present(state metav1.Object) Change { return Change{Object: objectOf(state), State: state} }
func gone(state metav1.Object) Change    { return Change{Object: objectOf(state)} }

func newTranslator(t *testing.T, options Options) *Translator {
	t.Helper()
	translator, err := NewTranslator(options)
	if err != nil {
		t.Fatalf("NewTranslator(%+v): %v", options, err)
	}
	return translator
}

func service(edits ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "reviews"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}},
	}
	for _, edit := range edits {
		edit(s)
	}
	return s
}

func exportTo(value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations = map[string]string{ExportToAnnotation: value} }
}

func aliasOf(target string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: target}
	}
}

func headless(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }

func entry(edits ...func(*networkingv1.ServiceEntry)) *networkingv1.ServiceEntry {
	e := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "db"}}
	e.Spec.Hosts = []string{"db.example.com"}
	e.Spec.Resolution = networking.ServiceEntry_DNS
	for _, edit := range edits {
		edit(e)
	}
	return e
}

func status(pairs ...string) []*networking.ServiceEntryAddress {
	var addresses []*networking.ServiceEntryAddress
	for i := 0; i < len(pairs); i += 2 {
		addresses = append(addresses, &networking.ServiceEntryAddress{Host: pairs[i], Value: pairs[i+1]})
	}
	return addresses
}

func slice(edits ...func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "prod", Name: "reviews-x1",
			Labels: map[string]string{discoveryv1.LabelServiceName: "reviews"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
	}
	for _, edit := range edits {
		edit(s)
	}
	return s
}

func TestTranslateOneObject(t *testing.T) {
	tests := []struct {
		name     string
		options  Options
		state    metav1.Object
		want     []string
		problems []string
	}{
		{
			name:  "a Service has its cluster IP",
			state: service(),
			want:  []string{"Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews) CLUSTER_IP 10.96.0.7"},
		}, {
			name: "cluster IPs of both families, IPv4 first, each once",
			state: service(func(s *corev1.Service) {
				s.Spec.ClusterIPs = []string{"fd00:96::7", "10.96.0.7", "10.96.0.7"}
			}),
			want: []string{"Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews) CLUSTER_IP 10.96.0.7 fd00:96::7"},
		}, {
			name:  "clusterIP where clusterIPs is not set",
			state: service(func(s *corev1.Service) { s.Spec.ClusterIPs = nil }),
			want:  []string{"Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews) CLUSTER_IP 10.96.0.7"},
		}, {
			name:    "another cluster domain, in any spelling, and a named cluster",
			options: Options{ClusterDomain: "K8s.Example.", Cluster: "west"},
			state:   service(),
			want:    []string{"Service@west/prod/reviews -> *: reviews.prod.svc.k8s.example (prod/reviews) CLUSTER_IP 10.96.0.7"},
		}, {
			name: "ports: lower-case names, TCP unless said, target as the port unless said, none for a named target",
			state: service(func(s *corev1.Service) {
				s.CreationTimestamp = metav1.NewTime(time.Unix(1700000000, 0))
				s.Spec.Ports = []corev1.ServicePort{
					{Name: "HTTP", Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP},
					{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
					{Name: "sig", Port: 36412, TargetPort: intstr.FromString("sig"), Protocol: corev1.ProtocolSCTP},
				}
			}),
			want: []string{"Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews) CLUSTER_IP 10.96.0.7 http/TCP/80>8080 dns/UDP/53 sig/SCTP/36412>0 since 1700000000"},
		}, {
			name:  "a headless Service has no address of its own",
			state: service(headless),
			want:  []string{"Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews) headless"},
		}, {
			name:  "an ExternalName is a CNAME to a lower-case name without final dot",
			state: service(aliasOf("DB.Example.COM.")),
			want:  []string{"Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews) CNAME db.example.com"},
		}, {
			name:     "an ExternalName that is an address makes no name",
			state:    service(aliasOf("192.0.2.1")),
			problems: []string{`Service prod/reviews: spec.externalName: "192.0.2.1": an IP address is no target of a CNAME, want a DNS name (there is no such name)`},
		}, {
			name:     "of IPv6 neither, nor with a final dot",
			state:    service(aliasOf("2001:db8::1.")),
			problems: []string{`Service prod/reviews: spec.externalName: "2001:db8::1.": an IP address is no target of a CNAME, want a DNS name (there is no such name)`},
		}, {
			name:     "an ExternalName that is no name at all",
			state:    service(aliasOf("a..b")),
			problems: []string{`Service prod/reviews: spec.externalName: "a..b": it has an empty label, want a DNS name (rejected, its last good state stays)`},
		}, {
			name:     "a Service without cluster IP is served and reported",
			state:    service(func(s *corev1.Service) { s.Spec = corev1.ServiceSpec{} }),
			want:     []string{"Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews)"},
			problems: []string{`Service prod/reviews: spec.clusterIP: it is not set, so the name has no address, want a cluster IP, or None for a headless Service (served as it is)`},
		}, {
			name:  "exportTo of a Service is a list with commas",
			state: service(exportTo("., test ,prod")),
			want:  []string{"Service/prod/reviews -> prod,test: reviews.prod.svc.cluster.local (prod/reviews) CLUSTER_IP 10.96.0.7"},
		}, {
			name:  "exportTo ~ is nobody",
			state: service(exportTo("~")),
			want:  []string{"Service/prod/reviews -> ~: reviews.prod.svc.cluster.local (prod/reviews) CLUSTER_IP 10.96.0.7"},
		}, {
			name:    "without exportTo the default counts",
			options: Options{DefaultExport: []string{"."}},
			state:   service(exportTo("")),
			want:    []string{"Service/prod/reviews -> prod: reviews.prod.svc.cluster.local (prod/reviews) CLUSTER_IP 10.96.0.7"},
		}, {
			name:     "a Service whose exportTo cannot be read is seen by nobody",
			state:    service(exportTo("Prod")),
			problems: []string{`Service prod/reviews: metadata.annotations[networking.istio.io/exportTo]: exportTo "Prod": want *, ., ~ or the name of a namespace, want *, ., ~ or names of namespaces (rejected, its last good state stays)`},
		}, {
			name: "every fault of a Service is named",
			state: service(func(s *corev1.Service) {
				s.Name = "Reviews"
				s.Spec.ClusterIPs = []string{"10.96.0.300"}
				s.Spec.Ports = []corev1.ServicePort{{Port: 70000}, {Port: 1, Protocol: "HTTP"}, {Port: 1, TargetPort: intstr.FromInt32(-1)}}
			}),
			problems: []string{
				`Service prod/Reviews: metadata.name: "Reviews" is no valid name, want a label of a-z, 0-9 and -, at most 63 long (rejected, its last good state stays)`,
				`Service prod/Reviews: spec.ports[0].port: 70000 is no port, want 1 to 65535 (rejected, its last good state stays)`,
				`Service prod/Reviews: spec.ports[1].protocol: "HTTP" is no protocol, want TCP, UDP or SCTP (rejected, its last good state stays)`,
				`Service prod/Reviews: spec.ports[2].targetPort: -1 is no port, want 1 to 65535 (rejected, its last good state stays)`,
				`Service prod/Reviews: spec.clusterIPs[0]: "10.96.0.300": it is no IP address, want an IPv4 or IPv6 address (rejected, its last good state stays)`,
			},
		}, {
			name:  "a Namespace is public, whatever the default",
			state: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}, options: Options{DefaultExport: []string{"~"}},
			want: []string{"Namespace/prod -> *: namespace prod"},
		}, {
			name: "a Namespace that is terminating still exists",
			state: &corev1.Namespace{
				ObjectMeta: metav1.ObjectMeta{Name: "prod", DeletionTimestamp: &metav1.Time{Time: time.Unix(1, 0)}},
				Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating},
			},
			want: []string{"Namespace/prod -> *: namespace prod"},
		}, {
			name: "a ServiceEntry yields one resource for each host, lower-case and without final dot, each once",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Hosts = []string{"DB.Example.com.", "*.db.example.com", "db.example.com", "single"}
				e.Spec.Addresses = []string{"192.0.2.5"}
				e.Spec.Ports = []*networking.ServicePort{{Name: "MySQL", Number: 3306, Protocol: "TCP", TargetPort: 13306}, {Name: "dns", Number: 53, Protocol: "UDP"}}
			}),
			want: []string{
				"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db) LITERAL 192.0.2.5 mysql/TCP/3306>13306 dns/UDP/53",
				"ServiceEntry/prod/db/*.db.example.com -> *: *.db.example.com (prod/db) LITERAL 192.0.2.5 mysql/TCP/3306>13306 dns/UDP/53",
				"ServiceEntry/prod/db/single -> *: single (prod/db) LITERAL 192.0.2.5 mysql/TCP/3306>13306 dns/UDP/53",
			},
		}, {
			name: "invalid hosts are reported by name and the others stay",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Hosts = []string{"*", "a..b", "good.example.com", "192.0.2.1", "-x.example.com", "a/b", "*.", "b.*.c", "", strings.Repeat("x", 64) + ".com", strings.Repeat("a.", 127) + "aa", "under_score.example.com"}
			}),
			want: []string{
				"ServiceEntry/prod/db/good.example.com -> *: good.example.com (prod/db)",
				"ServiceEntry/prod/db/under_score.example.com -> *: under_score.example.com (prod/db)",
			},
			problems: []string{
				`ServiceEntry prod/db: spec.hosts[0]: "*": it stands for every name there is, want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[1]: "a..b": it has an empty label, want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[3]: "192.0.2.1": it is an IP address, want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[4]: "-x.example.com": its label "-x" starts or ends with a hyphen, want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[5]: "a/b": its label "a/b" contains '/', want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[6]: "*.": it is empty, want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[7]: "b.*.c": its label "*" contains '*', want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[8]: "": it is empty, want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[9]: "` + strings.Repeat("x", 64) + `.com": its label "` + strings.Repeat("x", 64) + `" is longer than 63, want a DNS name, or one below *. (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.hosts[10]: "` + strings.Repeat("a.", 127) + `aa": it is longer than 253, want a DNS name, or one below *. (left out, the rest is served)`,
			},
		}, {
			name: "literal addresses: a network of one is its address, a larger one is left out",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Addresses = []string{"2001:db8::5/128", "192.0.2.5/32", "192.0.2.0/24", "::ffff:192.0.2.6", "nonsense"}
				e.Status.Addresses = status("db.example.com", "240.240.0.1")
			}),
			want: []string{"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db) LITERAL 192.0.2.5 192.0.2.6 2001:db8::5"},
			problems: []string{
				`ServiceEntry prod/db: spec.addresses[2]: "192.0.2.0/24": a network of more than one address answers no query, want an address, a /32 or a /128 (left out, the rest is served)`,
				`ServiceEntry prod/db: spec.addresses[4]: "nonsense": it is no IP address, want an address, a /32 or a /128 (left out, the rest is served)`,
			},
		}, {
			name: "virtual IPs: the last of each family that the status gives the host",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Status.Addresses = status("db.example.com", "240.240.0.1", "db.example.com", "2001:2::1",
					"DB.example.com.", "240.240.0.2", "old.example.com", "240.240.0.9")
			}),
			want: []string{"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db) VIRTUAL_IP 240.240.0.2 2001:2::1"},
		}, {
			name: "no virtual IP for a wildcard",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Hosts = []string{"*.example.com"}
				e.Status.Addresses = status("*.example.com", "240.240.0.1")
			}),
			want: []string{"ServiceEntry/prod/db/*.example.com -> *: *.example.com (prod/db)"},
		}, {
			name: "but one for a wildcard with DYNAMIC_DNS",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Hosts = []string{"*.example.com"}
				e.Spec.Resolution = networking.ServiceEntry_DYNAMIC_DNS
				e.Status.Addresses = status("*.example.com", "240.240.0.1")
			}),
			want: []string{"ServiceEntry/prod/db/*.example.com -> *: *.example.com (prod/db) VIRTUAL_IP 240.240.0.1"},
		}, {
			name: "no virtual IP with resolution NONE: its endpoints' addresses",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Resolution = networking.ServiceEntry_NONE
				e.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "192.0.2.8"}, {Address: "unix:///run/db"}, {Address: "db.internal"}, {Address: "2001:db8::8"}}
				e.Status.Addresses = status("db.example.com", "240.240.0.1")
			}),
			want: []string{"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db) ENDPOINT 192.0.2.8 2001:db8::8"},
		}, {
			name: "a virtual IP before the endpoints of STATIC",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Resolution = networking.ServiceEntry_STATIC
				e.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "192.0.2.8"}}
				e.Status.Addresses = status("db.example.com", "2001:2::1")
			}),
			want: []string{"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db) VIRTUAL_IP 2001:2::1"},
		}, {
			name: "the endpoints of STATIC without virtual IP",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Resolution = networking.ServiceEntry_STATIC
				e.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "192.0.2.8"}}
			}),
			want: []string{"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db) ENDPOINT 192.0.2.8"},
		}, {
			name: "never the endpoints of DNS",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "192.0.2.8"}}
			}),
			want: []string{"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db)"},
		}, {
			name: "nonsense in the status is left out",
			state: entry(func(e *networkingv1.ServiceEntry) {
				e.Status.Addresses = status("db.example.com", "240.240.0.1", "db.example.com", "x", "a..b", "240.240.0.2")
			}),
			want: []string{"ServiceEntry/prod/db/db.example.com -> *: db.example.com (prod/db) VIRTUAL_IP 240.240.0.1"},
			problems: []string{
				`ServiceEntry prod/db: status.addresses[1].value: "x": it is no IP address, want an IPv4 or IPv6 address (left out, the rest is served)`,
				`ServiceEntry prod/db: status.addresses[2].host: "a..b": it has an empty label, want a DNS name, or one below *. (left out, the rest is served)`,
			},
		}, {
			name:  "spec.exportTo of a ServiceEntry",
			state: entry(func(e *networkingv1.ServiceEntry) { e.Spec.ExportTo = []string{"."} }),
			want:  []string{"ServiceEntry/prod/db/db.example.com -> prod: db.example.com (prod/db)"},
		}, {
			name:     "a ServiceEntry without hosts",
			state:    entry(func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = nil }),
			problems: []string{"ServiceEntry prod/db: spec.hosts: it is empty, want at least one host (rejected, its last good state stays)"},
		}, {
			name:  "an EndpointSlice without its Service is seen by nobody",
			state: slice(),
			want:  []string{`EndpointSlice/prod/reviews-x1 -> ~: of prod/reviews {10.0.0.1 "" R S}`},
		}, {
			name: "endpoints: unset conditions mean ready, serving as ready, not terminating",
			state: slice(func(s *discoveryv1.EndpointSlice) {
				yes, no, zone, node, host := true, false, "z1", "n1", "DB-0"
				s.Endpoints = []discoveryv1.Endpoint{
					{Addresses: []string{"10.0.0.1"}, Hostname: &host, Zone: &zone, NodeName: &node},
					{Addresses: []string{"10.0.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
					{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}},
				}
				number, name, udp := int32(53), "DNS", corev1.ProtocolUDP
				s.Ports = []discoveryv1.EndpointPort{{Port: &number, Name: &name, Protocol: &udp}}
			}),
			want: []string{`EndpointSlice/prod/reviews-x1 -> ~: of prod/reviews {10.0.0.1 "db-0" R S z1/n1} {10.0.0.2 ""} {10.0.0.3 "" S T} dns/UDP/53`},
		}, {
			name: "a port of a slice without a number has the number zero and keeps its name and protocol",
			state: slice(func(s *discoveryv1.EndpointSlice) {
				number, name, udp := int32(53), "Any", corev1.ProtocolUDP
				s.Ports = []discoveryv1.EndpointPort{{Port: &number}, {Name: &name, Protocol: &udp}, {}}
			}),
			want: []string{`EndpointSlice/prod/reviews-x1 -> ~: of prod/reviews {10.0.0.1 "" R S} /TCP/53 any/UDP/0 /TCP/0`},
		}, {
			name:  "an EndpointSlice of names is passed over",
			state: slice(func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }),
		}, {
			name:     "an EndpointSlice without label",
			state:    slice(func(s *discoveryv1.EndpointSlice) { s.Labels = nil }),
			problems: []string{"EndpointSlice prod/reviews-x1: metadata.labels[kubernetes.io/service-name]: it is not set, so the endpoints belong to no Service, want the name of a headless Service (left out, the rest is served)"},
		}, {
			name: "every fault of an EndpointSlice is named",
			state: slice(func(s *discoveryv1.EndpointSlice) {
				host, number := "a.b", int32(0)
				s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"fd00::1", "fe80::1%eth0"}, Hostname: &host}}
				s.Ports = []discoveryv1.EndpointPort{{Port: &number}}
			}),
			problems: []string{
				`EndpointSlice prod/reviews-x1: endpoints[0].addresses[0]: "fd00::1": it is not of the slice's addressType, IPv4, want an IPv4 address (rejected, its last good state stays)`,
				`EndpointSlice prod/reviews-x1: endpoints[0].addresses[1]: "fe80::1%eth0": it has a zone, want an IPv4 address (rejected, its last good state stays)`,
				`EndpointSlice prod/reviews-x1: endpoints[0].hostname: "a.b" is no valid name, want a label of a-z, 0-9 and -, at most 63 long (rejected, its last good state stays)`,
				`EndpointSlice prod/reviews-x1: ports[0].port: 0 is no port, want 1 to 65535 (rejected, its last good state stays)`,
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			updates, problems := newTranslator(t, test.options).Translate(present(test.state))
			var got []string
			for _, update := range updates {
				for _, resource := range update.Resources {
					got = append(got, render(resource))
				}
			}
			expectLines(t, "resources", got, test.want)
			expectLines(t, "problems", renderProblems(problems), test.problems)
		})
	}
}

// TestVirtualIPs is Istio's rule of which hosts have the virtual IPs that their status says.
func TestVirtualIPs(t *testing.T) {
	labelled := func(value string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Labels = map[string]string{AutoAllocateLabel: value} }
	}
	resolved := func(resolution networking.ServiceEntry_Resolution) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Spec.Resolution = resolution }
	}
	named := func(hosts ...string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = hosts }
	}
	tests := []struct {
		name  string
		edits []func(*networkingv1.ServiceEntry)
		// status is pairs of host and address, want the addresses by host.
		status []string
		want   map[string]string
	}{
		{"resolution DNS", nil, []string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "240.240.0.1"}},
		{"resolution DNS_ROUND_ROBIN", []func(*networkingv1.ServiceEntry){resolved(networking.ServiceEntry_DNS_ROUND_ROBIN)},
			[]string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "240.240.0.1"}},
		{"resolution STATIC", []func(*networkingv1.ServiceEntry){resolved(networking.ServiceEntry_STATIC)},
			[]string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "240.240.0.1"}},
		{"resolution DYNAMIC_DNS", []func(*networkingv1.ServiceEntry){resolved(networking.ServiceEntry_DYNAMIC_DNS)},
			[]string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "240.240.0.1"}},
		{"resolution NONE: the status is ignored", []func(*networkingv1.ServiceEntry){resolved(networking.ServiceEntry_NONE)},
			[]string{"db.example.com", "240.240.0.1"}, nil},
		{"no resolution is NONE", []func(*networkingv1.ServiceEntry){resolved(0)}, []string{"db.example.com", "240.240.0.1"}, nil},
		{"addresses in the spec: the status is ignored", []func(*networkingv1.ServiceEntry){func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = []string{"192.0.2.5"} }},
			[]string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "192.0.2.5"}},
		{"a network in the spec, which answers nothing: the status is ignored", []func(*networkingv1.ServiceEntry){func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = []string{"192.0.2.0/24"} }},
			[]string{"db.example.com", "240.240.0.1"}, nil},
		{"the label false", []func(*networkingv1.ServiceEntry){labelled("false")}, []string{"db.example.com", "240.240.0.1"}, nil},
		{"the label False", []func(*networkingv1.ServiceEntry){labelled("False")}, []string{"db.example.com", "240.240.0.1"}, nil},
		{"the label FALSE", []func(*networkingv1.ServiceEntry){labelled("FALSE")}, []string{"db.example.com", "240.240.0.1"}, nil},
		{"the label fAlSe", []func(*networkingv1.ServiceEntry){labelled("fAlSe")}, []string{"db.example.com", "240.240.0.1"}, nil},
		{"the label true", []func(*networkingv1.ServiceEntry){labelled("true")}, []string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "240.240.0.1"}},
		{"the label with anything else", []func(*networkingv1.ServiceEntry){labelled("no")}, []string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "240.240.0.1"}},
		{"the empty label", []func(*networkingv1.ServiceEntry){labelled("")}, []string{"db.example.com", "240.240.0.1"}, map[string]string{"db.example.com": "240.240.0.1"}},
		{"a wildcard beside an exact host", []func(*networkingv1.ServiceEntry){named("*.example.com", "db.example.com")},
			[]string{"*.example.com", "240.240.0.1", "db.example.com", "240.240.0.2"}, map[string]string{"db.example.com": "240.240.0.2"}},
		{"a wildcard beside an exact host with DYNAMIC_DNS", []func(*networkingv1.ServiceEntry){named("*.example.com", "db.example.com"), resolved(networking.ServiceEntry_DYNAMIC_DNS)},
			[]string{"*.example.com", "240.240.0.1", "db.example.com", "240.240.0.2"},
			map[string]string{"*.example.com": "240.240.0.1", "db.example.com": "240.240.0.2"}},
		{"the last of each family counts, whatever is between them", nil,
			[]string{"db.example.com", "240.240.0.1", "db.example.com", "2001:2::1", "db.example.com", "240.240.0.2", "db.example.com", "2001:2::2"},
			map[string]string{"db.example.com": "240.240.0.2 2001:2::2"}},
		{"only IPv6", nil, []string{"db.example.com", "2001:2::1"}, map[string]string{"db.example.com": "2001:2::1"}},
		{"each host has its own", []func(*networkingv1.ServiceEntry){named("a.example.com", "b.example.com")},
			[]string{"a.example.com", "240.240.0.1", "b.example.com", "240.240.0.2"},
			map[string]string{"a.example.com": "240.240.0.1", "b.example.com": "240.240.0.2"}},
		{"entries for hosts that are not in the spec any more are dropped", []func(*networkingv1.ServiceEntry){named("a.example.com")},
			[]string{"gone.example.com", "240.240.0.1", "a.example.com", "240.240.0.2", "gone.example.com", "240.240.0.3"},
			map[string]string{"a.example.com": "240.240.0.2"}},
		{"an address of no host is nobody's", nil, []string{"other.example.com", "240.240.0.1"}, nil},
		{"no status yet", nil, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			given := entry(test.edits...)
			given.Status.Addresses = status(test.status...)
			updates, _ := newTranslator(t, Options{}).Translate(present(given))
			got := map[string]string{}
			for _, resource := range updates[0].Resources {
				service := resource.Body.GetService()
				var addresses []string
				for _, encoded := range service.GetAddresses() {
					address, _ := netip.AddrFromSlice(encoded)
					addresses = append(addresses, address.String())
				}
				if len(addresses) > 0 {
					got[service.GetHost()] = strings.Join(addresses, " ")
				}
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("Addresses: got %v, want %v", got, test.want)
			}
		})
	}
}

func renderProblems(problems []Problem) []string {
	var lines []string
	for _, problem := range problems {
		lines = append(lines, fmt.Sprintf("%v (%s)", problem, problem.Effect))
	}
	return lines
}

func expectLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got  %s\n want %s", what, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
	}
}

// renderUpdates writes what each updated object now yields.
func renderUpdates(updates []registry.Update) []string {
	var lines []string
	for _, update := range updates {
		line := update.Object.String() + " nothing"
		if len(update.Resources) > 0 {
			line = update.Object.String() + " " + update.Resources[0].Visibility.String()
		}
		lines = append(lines, line)
	}
	return lines
}

func TestSlicesFollowTheirService(t *testing.T) {
	other := slice(func(s *discoveryv1.EndpointSlice) { s.Name = "reviews-x2" })
	moved := slice(func(s *discoveryv1.EndpointSlice) { s.Labels = map[string]string{discoveryv1.LabelServiceName: "else"} })
	broken := slice(func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"x"} })
	steps := []struct {
		name    string
		changes []Change
		want    []string
	}{
		{"slices before their Service", []Change{present(slice()), present(other)},
			[]string{"EndpointSlice prod/reviews-x1 ~", "EndpointSlice prod/reviews-x2 ~"}},
		{"the Service comes", []Change{present(service(headless))},
			[]string{"Service prod/reviews *", "EndpointSlice prod/reviews-x1 *", "EndpointSlice prod/reviews-x2 *"}},
		{"the Service changes nothing that concerns them", []Change{present(service(headless, exportTo("*")))},
			[]string{"Service prod/reviews *"}},
		{"the Service changes its visibility, together with one of them", []Change{present(slice()), present(service(headless, exportTo(".")))},
			[]string{"EndpointSlice prod/reviews-x1 prod", "Service prod/reviews prod", "EndpointSlice prod/reviews-x2 prod"}},
		{"a bad Service changes nothing", []Change{present(service(headless, exportTo("!")))}, nil},
		{"a bad slice changes nothing", []Change{present(broken)}, nil},
		{"the Service gets cluster IPs", []Change{present(service(exportTo(".")))},
			[]string{"Service prod/reviews prod", "EndpointSlice prod/reviews-x1 nothing", "EndpointSlice prod/reviews-x2 nothing"}},
		{"and is headless again", []Change{present(service(headless))},
			[]string{"Service prod/reviews *", "EndpointSlice prod/reviews-x1 *", "EndpointSlice prod/reviews-x2 *"}},
		{"the Service becomes an alias of an address", []Change{present(service(aliasOf("192.0.2.1")))},
			[]string{"Service prod/reviews nothing", "EndpointSlice prod/reviews-x1 nothing", "EndpointSlice prod/reviews-x2 nothing"}},
		{"of another", []Change{present(service(aliasOf("192.0.2.2")))},
			[]string{"Service prod/reviews nothing"}},
		{"and is headless once more", []Change{present(service(headless))},
			[]string{"Service prod/reviews *", "EndpointSlice prod/reviews-x1 *", "EndpointSlice prod/reviews-x2 *"}},
		{"a slice moves to a Service that is not known", []Change{present(moved)},
			[]string{"EndpointSlice prod/reviews-x1 ~"}},
		{"a slice goes", []Change{gone(other)}, []string{"EndpointSlice prod/reviews-x2 nothing"}},
		{"the Service has no slices any more", []Change{gone(service())}, []string{"Service prod/reviews nothing"}},
		{"a slice comes back", []Change{present(slice())}, []string{"EndpointSlice prod/reviews-x1 ~"}},
		{"the Service comes and goes in one batch", []Change{present(service(headless)), gone(service())},
			[]string{"Service prod/reviews nothing", "EndpointSlice prod/reviews-x1 ~"}},
	}
	translator := newTranslator(t, Options{})
	for _, step := range steps {
		updates, _ := translator.Translate(step.changes...)
		expectLines(t, step.name, renderUpdates(updates), step.want)
	}
}

// TestAServiceChangesItsKind takes a Service with a slice through every change of what it is: what an
// object was before never shows in what it yields now.
func TestAServiceChangesItsKind(t *testing.T) {
	const (
		name    = "Service/prod/reviews -> *: reviews.prod.svc.cluster.local (prod/reviews)"
		answers = `EndpointSlice/prod/reviews-x1 -> *: of prod/reviews {10.0.0.1 "" R S}`
	)
	kinds := map[string]struct {
		state          *corev1.Service
		service, slice []string
	}{
		"cluster IP":                  {service(), []string{name + " CLUSTER_IP 10.96.0.7"}, nil},
		"headless":                    {service(headless), []string{name + " headless"}, []string{answers}},
		"alias":                       {service(aliasOf("db.example.com")), []string{name + " CNAME db.example.com"}, nil},
		"alias of an address":         {service(aliasOf("192.0.2.1")), nil, nil},
		"alias of an address, hidden": {service(aliasOf("192.0.2.1"), exportTo("~")), nil, nil},
	}
	for before, was := range kinds {
		for after, is := range kinds {
			t.Run(before+" to "+after, func(t *testing.T) {
				translator := newTranslator(t, Options{})
				said := map[registry.Object][]string{}
				for _, state := range []metav1.Object{slice(), was.state, is.state} {
					updates, _ := translator.Translate(present(state))
					say(said, updates)
				}
				expectLines(t, "the Service", said[objectOf(is.state)], is.service)
				expectLines(t, "its slice", said[objectOf(slice())], is.slice)
			})
		}
	}
}

func TestABadStateKeepsTheLastGoodOneOfTheSameBatch(t *testing.T) {
	updates, problems := newTranslator(t, Options{}).Translate(
		present(service()), present(service(exportTo("."))), present(service(exportTo("?"))), present(entry()))
	expectLines(t, "updates", renderUpdates(updates), []string{"Service prod/reviews prod", "ServiceEntry prod/db *"})
	if len(problems) != 1 || problems[0].Effect != Rejected {
		t.Errorf("problems: got %v, want one, rejected", problems)
	}
}

func TestTranslateDoesNotChangeItsInput(t *testing.T) {
	given := entry(func(e *networkingv1.ServiceEntry) {
		e.Spec.Hosts = []string{"DB.example.com."}
		e.Spec.Addresses = []string{"2001:db8::1", "192.0.2.1"}
	})
	before := given.DeepCopy()
	newTranslator(t, Options{}).Translate(present(given))
	if !slices.Equal(given.Spec.Hosts, before.Spec.Hosts) || !slices.Equal(given.Spec.Addresses, before.Spec.Addresses) {
		t.Errorf("got %v %v, want %v %v", given.Spec.Hosts, given.Spec.Addresses, before.Spec.Hosts, before.Spec.Addresses)
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, options := range map[string]Options{
		"a cluster domain that is no name":         {ClusterDomain: "cluster..local"},
		"a default export that cannot be read":     {DefaultExport: []string{"!"}},
		"a default export that contradicts itself": {DefaultExport: []string{"~", "*"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewTranslator(options); err == nil {
				t.Errorf("NewTranslator(%+v): got no error, want one", options)
			}
		})
	}
}

func TestProblemsTellOnlyWhatIsNew(t *testing.T) {
	object := registry.Object{Kind: KindService, Namespace: "a", Name: "b"}
	one, two := Problem{Object: object, Field: "one"}, Problem{Object: object, Field: "two"}
	var problems Problems
	steps := []struct {
		found, fresh []Problem
		count        int
	}{
		{[]Problem{one}, []Problem{one}, 1},
		{[]Problem{one, two}, []Problem{two}, 2},
		{[]Problem{one}, nil, 1},
		{nil, nil, 0},
		{[]Problem{one}, []Problem{one}, 1},
	}
	for i, step := range steps {
		if fresh := problems.Replace(object, step.found); !slices.Equal(fresh, step.fresh) || problems.Len() != step.count {
			t.Errorf("step %d: got %v and %d, want %v and %d", i, fresh, problems.Len(), step.fresh, step.count)
		}
	}
}
