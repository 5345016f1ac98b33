package conformance

import (
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// specified is the namespace of the objects that the specification is asked of.
const specified = "specified"

// specifiedLong is a namespace whose name is as long as a label may be.
var specifiedLong = longest("m")

// specifiedObjects is a Service of every kind that the specification names.
func specifiedObjects() []change {
	service := func(name string, spec corev1.ServiceSpec) change {
		return create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: specified, Name: name}, Spec: spec})
	}
	slice := func(name, of string, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) change {
		return create(&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: specified, Name: name, Labels: sliceLabels(of, true)},
			AddressType: family, Ports: ports, Endpoints: endpoints,
		})
	}
	endpoint := func(hostname, address string, ready bool) discoveryv1.Endpoint {
		e := discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
		if hostname != "" {
			e.Hostname = &hostname
		}
		return e
	}
	terminating := endpoint("leaving", "10.244.9.5", false)
	terminating.Conditions.Serving, terminating.Conditions.Terminating = new(true), new(true)
	port := func(name string, number int32, protocol corev1.Protocol) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol}
	}
	both := new(corev1.IPFamilyPolicyRequireDualStack)
	https := []discoveryv1.EndpointPort{port("https", 8443, corev1.ProtocolTCP), port("dns", 53, corev1.ProtocolUDP)}
	return []change{
		service("web", corev1.ServiceSpec{IPFamilyPolicy: both, Ports: []corev1.ServicePort{
			{Name: "https", Port: 443}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
		}}),
		service("plain", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}),
		service("pets", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, IPFamilyPolicy: both, Ports: []corev1.ServicePort{
			{Name: "https", Port: 443}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
		}}),
		slice("pets-4", "pets", discoveryv1.AddressTypeIPv4, https,
			endpoint("my-pet", "10.244.9.1", true), endpoint("my-pet", "10.244.9.2", true), endpoint("", "10.244.9.3", true),
			endpoint("shy", "10.244.9.4", false), terminating, endpoint(longest("h"), "10.244.9.6", true)),
		slice("pets-6", "pets", discoveryv1.AddressTypeIPv6, https,
			endpoint("my-pet", "fd00:10:244::1", true), endpoint("", "fd00:10:244::", true)),
		// The addresses of no endpoint here have a hostname.
		service("nameless", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, IPFamilyPolicy: both, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}),
		slice("nameless-4", "nameless", discoveryv1.AddressTypeIPv4, https[:1], endpoint("", "10.244.9.20", true), endpoint("", "10.244.9.21", true)),
		slice("nameless-6", "nameless", discoveryv1.AddressTypeIPv6, https[:1],
			endpoint("", "fd00:10:244::20", true), endpoint("", "fd00:10:244:0:1:2:3:4", true), endpoint("", "fd00:10:244:0:5::", true)),
		service("unnamed", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Port: 80}}}),
		slice("unnamed", "unnamed", discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{port("", 80, corev1.ProtocolTCP)},
			endpoint("only", "10.244.9.10", true)),
		service("portless", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}),
		slice("portless", "portless", discoveryv1.AddressTypeIPv4, nil, endpoint("bare", "10.244.9.11", true)),
		// As Kubernetes' own controller writes it: what is to be published is ready.
		service("early", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}),
		slice("early", "early", discoveryv1.AddressTypeIPv4, https[:1], discoveryv1.Endpoint{
			Addresses: []string{"10.244.9.12"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(false)},
		}),
		service("idle", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}),
		slice("idle", "idle", discoveryv1.AddressTypeIPv4, nil, endpoint("asleep", "10.244.9.13", false)),
		service("vacant", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}),
		service("six", corev1.ServiceSpec{IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol}, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}),
		create(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: specifiedLong, Name: longest("s")},
			Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "fifteen-letters", Port: 443}}},
		}),
		create(&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: specifiedLong, Name: "long", Labels: sliceLabels(longest("s"), true)},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{port("fifteen-letters", 8443, corev1.ProtocolTCP)},
			Endpoints:   []discoveryv1.Endpoint{endpoint(longest("h"), "10.244.9.30", true)},
		}),
		service("foo", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "both.outside.test"}),
	}
}

// specification is the facts about these objects, in the order of the specification.
func specification(w *world) []fact {
	name := func(labels string) string { return labels + "." + specified + ".svc." + clusterZone }
	web, pets := name("web"), name("pets")
	reverse := func(address string) string {
		reversed, err := dns.ReverseAddr(address)
		if err != nil {
			panic(err)
		}
		return reversed
	}
	webIPs := w.services[objectName{specified, "web"}].Spec.ClusterIPs
	v4, v6 := webIPs[0], webIPs[1]
	plain := w.services[objectName{specified, "plain"}].Spec.ClusterIP
	six := w.services[objectName{specified, "six"}].Spec.ClusterIP
	long := longest("h")
	longService := longest("s") + "." + specifiedLong + ".svc." + clusterZone
	pod := func(label string) string { return label + "." + specified + ".pod." + clusterZone }
	const ok, nameError = dns.RcodeSuccess, dns.RcodeNameError
	// The addresses of the endpoints of pets, by name.
	addresses := []string{
		"my-pet." + pets + " a 10.244.9.1", "my-pet." + pets + " a 10.244.9.2", "my-pet." + pets + " aaaa fd00:10:244::1",
		"10-244-9-3." + pets + " a 10.244.9.3", long + "." + pets + " a 10.244.9.6", "fd00-10-244--0." + pets + " aaaa fd00:10:244::",
	}
	srv := func(question string, port string, targets ...string) (records []string) {
		for _, target := range targets {
			records = append(records, strings.ToLower(question)+" srv 0 0 "+port+" "+target)
		}
		return records
	}
	targets := []string{"my-pet." + pets, "10-244-9-3." + pets, long + "." + pets, "fd00-10-244--0." + pets}
	return []fact{
		{"2.1", "names are compared without regard to case", strings.ToUpper(web) + " A", ok, []string{web + " a " + v4}, nil},
		{"2.1", "also those of endpoints", "My-Pet." + pets + " AAAA", ok, []string{"my-pet." + pets + " aaaa fd00:10:244::1"}, nil},
		{"2.1", "also those of ports", "_HTTPS._Tcp." + web + " SRV", ok, srv("_https._tcp."+web, "443", web), []string{web + " a " + v4, web + " aaaa " + v6}},
		{"2.1", "an endpoint's hostname is that in its hostname field", "my-pet." + pets + " A", ok,
			[]string{"my-pet." + pets + " a 10.244.9.1", "my-pet." + pets + " a 10.244.9.2"}, nil},
		{"2.1", "without one it has an identifier of the system", "10-244-9-3." + pets + " A", ok, []string{"10-244-9-3." + pets + " a 10.244.9.3"}, nil},
		{"2.1", "also for IPv6", "fd00-10-244--0." + pets + " AAAA", ok, []string{"fd00-10-244--0." + pets + " aaaa fd00:10:244::"}, nil},
		{"2.1", "with a hostname it has no other", "10-244-9-1." + pets + " A", nameError, nil, nil},
		{"2.1", "a hostname may be as long as a label", long + "." + pets + " A", ok, []string{long + "." + pets + " a 10.244.9.6"}, nil},
		{"2.1", "an endpoint that is not ready is not there", "shy." + pets + " A", nameError, nil, nil},
		{"2.1", "nor one that is terminating", "leaving." + pets + " A", nameError, nil, nil},
		{"2.1", "one is ready where its Service publishes those that are not", name("early") + " A", ok, []string{name("early") + " a 10.244.9.12"}, nil},

		{"2.1", "and is so wherever it is told: SRV", "_https._tcp." + name("early") + " SRV", ok,
			srv("_https._tcp."+name("early"), "8443", "10-244-9-12."+name("early")), []string{"10-244-9-12." + name("early") + " a 10.244.9.12"}},
		{"2.1", "and is so wherever it is told: PTR", reverse("10.244.9.12") + " PTR", ok, []string{reverse("10.244.9.12") + " ptr 10-244-9-12." + name("early")}, nil},
		{"2.1", "addresses are compared without regard to case", strings.ToUpper(reverse("fd00:10:244::")) + " PTR", ok,
			[]string{reverse("fd00:10:244::") + " ptr fd00-10-244--0." + pets}, nil},
		{"2.1", "also the zone's version", "DNS-Version.CLUSTER.Local. TXT", ok, []string{"dns-version." + clusterZone + ` txt "1.1.0"`}, nil},
		{"2.1", "also external names", strings.ToUpper(name("foo")) + " CNAME", ok, []string{name("foo") + " cname both.outside.test."}, nil},

		{"2.2", "the zone tells the version of the schema", "dns-version." + clusterZone + " TXT", ok, []string{"dns-version." + clusterZone + ` txt "1.1.0"`}, nil},

		{"2.3.1", "a Service with a cluster IP has an A record", name("plain") + " A", ok, []string{name("plain") + " a " + plain}, nil},
		{"2.3.1", "and of each family that it has an address of: A", web + " A", ok, []string{web + " a " + v4}, nil},
		{"2.3.1", "and of each family that it has an address of: AAAA", web + " AAAA", ok, []string{web + " aaaa " + v6}, nil},
		{"2.3.1", "and none of the other", name("plain") + " AAAA", ok, nil, nil},
		{"2.3.1", "one of IPv6 alone has an AAAA record", name("six") + " AAAA", ok, []string{name("six") + " aaaa " + six}, nil},
		{"2.3.1", "and no A record", name("six") + " A", ok, nil, nil},
		{"2.3.1", "a Service that does not exist has none", name("nobody") + " A", nameError, nil, nil},

		{"2.3.2", "a named port has an SRV record", "_https._tcp." + web + " SRV", ok, srv("_https._tcp."+web, "443", web), []string{web + " a " + v4, web + " aaaa " + v6}},
		{"2.3.2", "a port of UDP is under its protocol", "_dns._udp." + web + " SRV", ok, srv("_dns._udp."+web, "53", web), []string{web + " a " + v4, web + " aaaa " + v6}},
		{"2.3.2", "and no other", "_dns._tcp." + web + " SRV", nameError, nil, nil},
		{"2.3.2", "a port that is not there has none", "_http._tcp." + web + " SRV", nameError, nil, nil},
		{"2.3.2", "an unnamed port has none", "_80._tcp." + name("plain") + " SRV", nameError, nil, nil},
		{"2.3.2", "a Service of IPv6 alone has one too", "_https._tcp." + name("six") + " SRV", ok, srv("_https._tcp."+name("six"), "443", name("six")), []string{name("six") + " aaaa " + six}},

		{"2.3.3", "a cluster IP points back to its Service", reverse(v4) + " PTR", ok, []string{reverse(v4) + " ptr " + web}, nil},
		{"2.3.3", "also an IPv6 one", reverse(v6) + " PTR", ok, []string{reverse(v6) + " ptr " + web}, nil},
		{"2.3.3", "one that is not taken does not", reverse("10.96.255.254") + " PTR", nameError, nil, nil},

		{"2.4.1", "a headless Service has an A record for each ready endpoint", pets + " A", ok,
			[]string{pets + " a 10.244.9.1", pets + " a 10.244.9.2", pets + " a 10.244.9.3", pets + " a 10.244.9.6"}, nil},
		{"2.4.1", "and an AAAA record", pets + " AAAA", ok, []string{pets + " aaaa fd00:10:244::", pets + " aaaa fd00:10:244::1"}, nil},
		{"2.4.1", "also without any port", name("portless") + " A", ok, []string{name("portless") + " a 10.244.9.11"}, nil},
		{"2.4.1", "without ready endpoints there is no such name", name("idle") + " A", nameError, nil, nil},
		{"2.4.1", "for IPv6 too", name("idle") + " AAAA", nameError, nil, nil},
		{"2.4.1", "nor without endpoints at all", name("vacant") + " A", nameError, nil, nil},
		{"2.4.1", "nor of its endpoints", "asleep." + name("idle") + " A", nameError, nil, nil},
		{"2.4.1", "several addresses of one hostname are all there", "my-pet." + pets + " A", ok,
			[]string{"my-pet." + pets + " a 10.244.9.1", "my-pet." + pets + " a 10.244.9.2"}, nil},
		{"2.4.1", "a hostname of both families has both: AAAA", "my-pet." + pets + " AAAA", ok, []string{"my-pet." + pets + " aaaa fd00:10:244::1"}, nil},
		{"2.4.1", "names of the greatest length are there", longService + " A", ok, []string{longService + " a 10.244.9.30"}, nil},
		{"2.4.1", "also with a hostname of that length", long + "." + longService + " A", ok, []string{long + "." + longService + " a 10.244.9.30"}, nil},

		{"2.4.2", "each ready endpoint has an SRV record for each named port", "_https._tcp." + pets + " SRV", ok, srv("_https._tcp."+pets, "8443", targets...), addresses},
		{"2.4.2", "N endpoints and M ports are N times M", "_dns._udp." + pets + " SRV", ok, srv("_dns._udp."+pets, "53", targets...), addresses},
		{"2.4.2", "an unnamed port has none", "_80._tcp." + name("unnamed") + " SRV", nameError, nil, nil},
		{"2.4.2", "nor has a Service without ports", "_https._tcp." + name("portless") + " SRV", nameError, nil, nil},
		{"2.4.2", "nor one without ready endpoints", "_https._tcp." + name("idle") + " SRV", nameError, nil, nil},
		{"2.4.2", "names of the greatest length have one", "_fifteen-letters._tcp." + longService + " SRV", ok,
			srv("_fifteen-letters._tcp."+longService, "8443", long+"."+longService), []string{long + "." + longService + " a 10.244.9.30"}},

		{"2.4.3", "an endpoint's address points back to it", reverse("10.244.9.2") + " PTR", ok, []string{reverse("10.244.9.2") + " ptr my-pet." + pets}, nil},
		{"2.4.3", "also by its identifier", reverse("10.244.9.3") + " PTR", ok, []string{reverse("10.244.9.3") + " ptr 10-244-9-3." + pets}, nil},
		{"2.4.3", "also an IPv6 one", reverse("fd00:10:244::") + " PTR", ok, []string{reverse("fd00:10:244::") + " ptr fd00-10-244--0." + pets}, nil},
		{"2.4.3", "that of one which is not ready does not", reverse("10.244.9.4") + " PTR", nameError, nil, nil},
		{"2.4.3", "nor that of one which is terminating", reverse("10.244.9.5") + " PTR", nameError, nil, nil},
		{"2.4.3", "an IPv6 one with a hostname points to it", reverse("fd00:10:244::1") + " PTR", ok, []string{reverse("fd00:10:244::1") + " ptr my-pet." + pets}, nil},
		{"2.4.3", "also to names of the greatest length", reverse("10.244.9.30") + " PTR", ok, []string{reverse("10.244.9.30") + " ptr " + long + "." + longService}, nil},

		{"2.5", "a Service with an external name is a CNAME", name("foo") + " CNAME", ok, []string{name("foo") + " cname both.outside.test."}, nil},
		{"2.5", "which is followed", name("foo") + " A", ok, []string{name("foo") + " cname both.outside.test.", "both.outside.test. a 192.0.2.80"}, nil},
		{"2.5", "in both families", name("foo") + " AAAA", ok, []string{name("foo") + " cname both.outside.test.", "both.outside.test. aaaa 2001:db8::80"}, nil},

		{"2.6", "a pod's name is its address", pod("10-1-2-3") + " A", ok, []string{pod("10-1-2-3") + " a 10.1.2.3"}, nil},
		{"2.6", "the least address has one", pod("0-0-0-0") + " A", ok, []string{pod("0-0-0-0") + " a 0.0.0.0"}, nil},
		{"2.6", "the greatest has one", pod("255-255-255-255") + " A", ok, []string{pod("255-255-255-255") + " a 255.255.255.255"}, nil},
		{"2.6", "what is no address has none", pod("10-1-2-256") + " A", nameError, nil, nil},

		{"3", "extensions leave the records above as they are: SRV of all ports", web + " SRV", ok,
			append(srv(web, "443", web), srv(web, "53", web)...), []string{web + " a " + v4, web + " aaaa " + v6}},
		{"3", "and of all ports of all endpoints", pets + " SRV", ok, append(srv(pets, "8443", targets...), srv(pets, "53", targets...)...), addresses},
	}
}
