package istio

import (
	"cmp"
	"strings"
	"testing"
)

// namespaces that the objects of tests live in and VMs ask from.
var namespaces = []string{"near", "far", "other"}

// nameCase is a rule by which istiod builds the table of names, or one in which we differ.
type nameCase struct {
	name    string
	objects string
	asked   []question
}

// question is a name, and the answer in a namespace.
type question struct {
	from, name string
	want       string
	// istio is Istio's answer where it is another on purpose, and why says so.
	istio, why string
}

// entry is a ServiceEntry near by. Its name is that of its host.
func entry(name, spec string) string { return entryIn("near", name, spec) }

func entryIn(namespace, name, spec string) string {
	return strings.NewReplacer("NAMESPACE", namespace, "NAME", name).Replace(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  hosts: [NAME.example.com]
  ports: [{number: 443, name: tls, protocol: TLS}]
  `) + strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ") + "\n---\n"
}

// given is an object with the status that an allocator has written.
func given(object string, hostsAndAddresses ...string) string {
	text := strings.TrimSuffix(object, "---\n") + "status:\n  addresses:\n"
	for i := 0; i+1 < len(hostsAndAddresses); i += 2 {
		text += "  - {host: '" + hostsAndAddresses[i] + "', value: '" + hostsAndAddresses[i+1] + "'}\n"
	}
	return text + "---\n"
}

// labelled is an object with labels.
func labelled(object, labels string) string {
	return strings.Replace(object, "metadata: {", "metadata: {labels: {"+labels+"}, ", 1)
}

func service(namespace, name, spec string) string {
	return strings.NewReplacer("NAMESPACE", namespace, "NAME", name).Replace(`apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: NAMESPACE}
spec: `) + spec + "\n---\n"
}

// exported is a Service with the annotation that says who sees it.
func exported(object, to string) string {
	return strings.Replace(object, "metadata: {", "metadata: {annotations: {networking.istio.io/exportTo: '"+to+"'}, ", 1)
}

// slice is an EndpointSlice of a headless Service near by.
func slice(service, endpoints, ports string) string {
	return strings.NewReplacer("NAME", service, "ENDPOINTS", endpoints, "PORTS", ports).Replace(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: NAME-1
  namespace: near
  labels: {kubernetes.io/service-name: NAME, service.kubernetes.io/headless: ''}
addressType: IPv4
endpoints: [ENDPOINTS]
ports: [PORTS]
---
`)
}

const (
	httpPort   = "{name: http, port: 80, protocol: TCP}"
	portless   = "STATIC without virtual IP: istiod has no entry; its endpoints are what the name is good for"
	firstLabel = "networking.istio.io/enable-autoallocate-ip: "
)

// everywhere asks the same from all namespaces.
func everywhere(name, want string) []question {
	var asked []question
	for _, namespace := range namespaces {
		asked = append(asked, question{from: namespace, name: name, want: want})
	}
	return asked
}

func nameCases() []nameCase {
	return []nameCase{
		{
			name:    "cluster IP",
			objects: service("near", "plain", "{clusterIP: 10.96.7.1, ports: ["+httpPort+"]}"),
			asked:   everywhere("plain.near.svc.cluster.local", "10.96.7.1"),
		},
		{
			name:    "cluster IPs of two families",
			objects: service("near", "dual", "{ipFamilyPolicy: RequireDualStack, clusterIP: 10.96.7.2, clusterIPs: [10.96.7.2, 'fd00:96::72'], ports: ["+httpPort+"]}"),
			asked:   everywhere("dual.near.svc.cluster.local", "10.96.7.2 fd00:96::72"),
		},
		{
			name:    "node port",
			objects: service("near", "node", "{type: NodePort, clusterIP: 10.96.7.3, ports: ["+httpPort+"]}"),
			asked:   everywhere("node.near.svc.cluster.local", "10.96.7.3"),
		},
		{
			name:    "load balancer",
			objects: service("near", "balanced", "{type: LoadBalancer, clusterIP: 10.96.7.4, ports: ["+httpPort+"]}") + "",
			asked:   everywhere("balanced.near.svc.cluster.local", "10.96.7.4"),
		},
		{
			name:    "external name",
			objects: service("near", "alias", "{type: ExternalName, externalName: target.example.net}"),
			asked: []question{{from: "near", name: "alias.near.svc.cluster.local", want: absent, istio: absent,
				why: "the CNAME leads outside, where the upstream answers: the same to who asks"}},
		},
		{
			name:    "Service exported to its own namespace",
			objects: exported(service("near", "mine", "{clusterIP: 10.96.7.5, ports: ["+httpPort+"]}"), "."),
			asked: []question{
				{from: "near", name: "mine.near.svc.cluster.local", want: "10.96.7.5"},
				{from: "far", name: "mine.near.svc.cluster.local", want: absent},
			},
		},
		{
			name:    "Service exported to another namespace",
			objects: exported(service("near", "yours", "{clusterIP: 10.96.7.6, ports: ["+httpPort+"]}"), "far"),
			asked: []question{
				{from: "near", name: "yours.near.svc.cluster.local", want: absent},
				{from: "far", name: "yours.near.svc.cluster.local", want: "10.96.7.6"},
				{from: "other", name: "yours.near.svc.cluster.local", want: absent},
			},
		},
		{
			name:    "Service exported to nobody",
			objects: exported(service("near", "nobodys", "{clusterIP: 10.96.7.7, ports: ["+httpPort+"]}"), "~"),
			asked:   everywhere("nobodys.near.svc.cluster.local", absent),
		},
		{
			name: "headless, ready endpoints",
			objects: service("near", "headless", "{clusterIP: None, ports: ["+httpPort+"]}") +
				slice("headless", "{addresses: [10.1.0.1], conditions: {ready: true}}, {addresses: [10.1.0.2], conditions: {ready: false}}", httpPort),
			asked: everywhere("headless.near.svc.cluster.local", "10.1.0.1"),
		},
		{
			name: "headless, endpoints that are not ready published",
			objects: service("near", "early", "{clusterIP: None, publishNotReadyAddresses: true, ports: ["+httpPort+"]}") +
				slice("early", "{addresses: [10.1.0.3], conditions: {ready: true}}, {addresses: [10.1.0.4], conditions: {ready: true, serving: false}}", httpPort),
			asked: everywhere("early.near.svc.cluster.local", "10.1.0.3 10.1.0.4"),
		},
		{
			name: "headless, no endpoint ready",
			objects: service("near", "waiting", "{clusterIP: None, ports: ["+httpPort+"]}") +
				slice("waiting", "{addresses: [10.1.0.5], conditions: {ready: false}}", httpPort),
			asked: everywhere("waiting.near.svc.cluster.local", absent),
		},
		{
			name: "headless without ports",
			objects: service("near", "portless", "{clusterIP: None}") +
				slice("portless", "{addresses: [10.1.0.6], conditions: {ready: true}}", ""),
			asked: []question{{from: "near", name: "portless.near.svc.cluster.local", want: "10.1.0.6", istio: absent,
				why: "the DNS specification of Kubernetes wants no ports for addresses"}},
		},

		{
			name:    "literal addresses",
			objects: entry("literal", "addresses: [198.51.100.1, '2001:db8::1']\nresolution: DNS"),
			asked:   everywhere("literal.example.com", "198.51.100.1 2001:db8::1"),
		},
		{
			name:    "a network of one address is that address",
			objects: entry("single", "addresses: [198.51.100.2/32, '2001:db8::2/128']\nresolution: STATIC"),
			asked:   everywhere("single.example.com", "198.51.100.2 2001:db8::2"),
		},
		{
			name:    "a larger network is no address",
			objects: entry("network", "addresses: [198.51.100.0/24, 198.51.100.3]\nresolution: STATIC"),
			asked:   everywhere("network.example.com", "198.51.100.3"),
		},
		{
			name:    "only a larger network",
			objects: entry("nothing", "addresses: [198.51.100.0/24]\nresolution: NONE"),
			asked:   everywhere("nothing.example.com", absent),
		},
		{
			name:    "literal addresses with resolution NONE",
			objects: entry("direct", "addresses: [198.51.100.4]\nresolution: NONE"),
			asked:   everywhere("direct.example.com", "198.51.100.4"),
		},
		{
			name:    "literal addresses beat the status",
			objects: given(entry("both", "addresses: [198.51.100.5]\nresolution: DNS"), "both.example.com", "240.240.1.1"),
			asked:   everywhere("both.example.com", "198.51.100.5"),
		},
		{
			name: "literal addresses of every host",
			objects: entry("several", "addresses: [198.51.100.6]\nresolution: DNS") +
				strings.Replace(entry("hosts", "addresses: [198.51.100.7]\nresolution: DNS"), "[hosts.example.com]", "[hosts.example.com, more.example.com]", 1),
			asked: append(everywhere("hosts.example.com", "198.51.100.7"), everywhere("more.example.com", "198.51.100.7")...),
		},
		{
			name:    "virtual IPs with resolution DNS",
			objects: given(entry("dns", "resolution: DNS"), "dns.example.com", "240.240.1.2", "dns.example.com", "2001:2::2"),
			asked:   everywhere("dns.example.com", "2001:2::2 240.240.1.2"),
		},
		{
			name:    "virtual IPs with resolution DNS_ROUND_ROBIN",
			objects: given(entry("robin", "resolution: DNS_ROUND_ROBIN"), "robin.example.com", "240.240.1.3"),
			asked:   everywhere("robin.example.com", "240.240.1.3"),
		},
		{
			name:    "virtual IPs with resolution STATIC beat endpoints",
			objects: given(entry("static", "resolution: STATIC\nendpoints: [{address: 198.51.100.8}]"), "static.example.com", "240.240.1.4"),
			asked:   everywhere("static.example.com", "240.240.1.4"),
		},
		{
			name:    "virtual IPs with resolution DYNAMIC_DNS",
			objects: given(entry("dynamic", "resolution: DYNAMIC_DNS"), "dynamic.example.com", "240.240.1.5"),
			asked:   everywhere("dynamic.example.com", "240.240.1.5"),
		},
		{
			name:    "no virtual IP with resolution NONE",
			objects: given(entry("none", "resolution: NONE"), "none.example.com", "240.240.1.6"),
			asked:   everywhere("none.example.com", absent),
		},
		{
			name:    "no virtual IP yet",
			objects: entry("pending", "resolution: DNS"),
			asked:   everywhere("pending.example.com", absent),
		},
		{
			name:    "the last virtual IP of each family",
			objects: given(entry("last", "resolution: DNS"), "last.example.com", "240.240.1.7", "last.example.com", "2001:2::7", "last.example.com", "240.240.1.8", "last.example.com", "2001:2::8"),
			asked:   everywhere("last.example.com", "2001:2::8 240.240.1.8"),
		},
		{
			name:    "virtual IPs of hosts that are no longer in the spec",
			objects: given(entry("left", "resolution: DNS"), "gone.example.com", "240.240.1.9", "left.example.com", "240.240.1.10"),
			asked:   append(everywhere("gone.example.com", absent), everywhere("left.example.com", "240.240.1.10")...),
		},
		{
			name:    "a status that does not parse",
			objects: given(entry("broken", "resolution: DNS"), "broken.example.com", "240.240.1.11", "broken.example.com", "none"),
			asked:   everywhere("broken.example.com", "240.240.1.11"),
		},
		{
			name:    "label false",
			objects: labelled(given(entry("optout", "resolution: DNS"), "optout.example.com", "240.240.1.12"), firstLabel+"'false'"),
			asked:   everywhere("optout.example.com", absent),
		},
		{
			name:    "label False",
			objects: labelled(given(entry("capital", "resolution: DNS"), "capital.example.com", "240.240.1.13"), firstLabel+"'False'"),
			asked:   everywhere("capital.example.com", absent),
		},
		{
			name:    "label true",
			objects: labelled(given(entry("optin", "resolution: DNS"), "optin.example.com", "240.240.1.14"), firstLabel+"'true'"),
			asked:   everywhere("optin.example.com", "240.240.1.14"),
		},
		{
			name:    "label of another word",
			objects: labelled(given(entry("word", "resolution: DNS"), "word.example.com", "240.240.1.15"), firstLabel+"'no'"),
			asked:   everywhere("word.example.com", "240.240.1.15"),
		},
		{
			name:    "STATIC without virtual IP",
			objects: entry("endpoints", "resolution: STATIC\nendpoints: [{address: 198.51.100.9}]"),
			asked:   []question{{from: "near", name: "endpoints.example.com", want: "198.51.100.9", istio: absent, why: portless}},
		},

		{
			name:    "wildcard with literal addresses",
			objects: strings.Replace(entry("wild", "addresses: [198.51.100.20]\nresolution: NONE"), "[wild.example.com]", "['*.wild.example.com']", 1),
			asked: []question{
				{from: "near", name: "a.wild.example.com", want: "198.51.100.20"},
				{from: "far", name: "b.a.wild.example.com", want: "198.51.100.20"},
				{from: "near", name: "wild.example.com", want: absent},
			},
		},
		{
			name:    "wildcard with virtual IPs and DYNAMIC_DNS",
			objects: given(strings.Replace(entry("wilddynamic", "resolution: DYNAMIC_DNS"), "[wilddynamic.example.com]", "['*.wilddynamic.example.com']", 1), "*.wilddynamic.example.com", "240.240.1.20"),
			asked:   everywhere("a.wilddynamic.example.com", "240.240.1.20"),
		},
		{
			name: "the host itself before a wildcard, the longest wildcard before others",
			objects: strings.Replace(entry("order", "addresses: [198.51.100.21]\nresolution: NONE"), "[order.example.com]", "['*.order.example.com']", 1) +
				strings.Replace(entry("order-sub", "addresses: [198.51.100.22]\nresolution: NONE"), "[order-sub.example.com]", "['*.sub.order.example.com']", 1) +
				strings.Replace(entry("order-one", "addresses: [198.51.100.23]\nresolution: NONE"), "[order-one.example.com]", "[one.sub.order.example.com]", 1),
			asked: []question{
				{from: "near", name: "a.order.example.com", want: "198.51.100.21"},
				{from: "near", name: "a.sub.order.example.com", want: "198.51.100.22"},
				{from: "near", name: "one.sub.order.example.com", want: "198.51.100.23"},
				{from: "near", name: "sub.order.example.com", want: "198.51.100.21"},
			},
		},

		{
			name:    "ServiceEntry exported to its own namespace",
			objects: entry("own", "addresses: [198.51.100.30]\nresolution: DNS\nexportTo: ['.']"),
			asked:   []question{{from: "near", name: "own.example.com", want: "198.51.100.30"}, {from: "far", name: "own.example.com", want: absent}},
		},
		{
			name:    "ServiceEntry exported to another namespace",
			objects: entry("elsewhere", "addresses: [198.51.100.31]\nresolution: DNS\nexportTo: [far]"),
			asked: []question{
				{from: "near", name: "elsewhere.example.com", want: absent},
				{from: "far", name: "elsewhere.example.com", want: "198.51.100.31"},
				{from: "other", name: "elsewhere.example.com", want: absent},
			},
		},
		{
			name:    "ServiceEntry exported to all",
			objects: entry("public", "addresses: [198.51.100.32]\nresolution: DNS\nexportTo: ['*']"),
			asked:   everywhere("public.example.com", "198.51.100.32"),
		},

		{
			name: "two ServiceEntries of one host in one namespace",
			objects: entry("joined", "addresses: [198.51.100.40]\nresolution: DNS") +
				strings.Replace(entry("joined-too", "addresses: [198.51.100.41]\nresolution: DNS"), "joined-too.example", "joined.example", 1),
			asked: everywhere("joined.example.com", "198.51.100.40 198.51.100.41"),
		},
		{
			name: "two virtual IPs of one host",
			objects: given(entry("pair", "resolution: DNS"), "pair.example.com", "240.240.1.40") +
				given(strings.Replace(entry("pair-too", "resolution: DNS"), "pair-too.example", "pair.example", 1), "pair.example.com", "240.240.1.41"),
			asked: everywhere("pair.example.com", "240.240.1.40 240.240.1.41"),
		},
		{
			name: "one's own namespace before others",
			objects: entry("home", "addresses: [198.51.100.42]\nresolution: DNS") +
				entryIn("far", "home", "addresses: [198.51.100.43]\nresolution: DNS"),
			asked: []question{
				{from: "near", name: "home.example.com", want: "198.51.100.42"},
				{from: "far", name: "home.example.com", want: "198.51.100.43"},
			},
		},
		{
			name: "one's own namespace before others, even without an address",
			objects: entry("empty", "resolution: DNS") +
				entryIn("far", "empty", "addresses: [198.51.100.44]\nresolution: DNS"),
			asked: []question{
				{from: "near", name: "empty.example.com", want: absent},
				{from: "far", name: "empty.example.com", want: "198.51.100.44"},
			},
		},
		{
			name: "what is exported to another namespace does not count",
			objects: entry("hidden", "addresses: [198.51.100.45]\nresolution: DNS\nexportTo: ['.']") +
				entryIn("far", "hidden", "addresses: [198.51.100.46]\nresolution: DNS"),
			asked: []question{
				{from: "near", name: "hidden.example.com", want: "198.51.100.45"},
				{from: "other", name: "hidden.example.com", want: "198.51.100.46"},
			},
		},
		{
			name: "Service before ServiceEntry of the same host",
			objects: service("near", "real", "{clusterIP: 10.96.7.50, ports: ["+httpPort+"]}") +
				strings.Replace(entryIn("far", "real", "addresses: [198.51.100.50]\nresolution: DNS"), "real.example.com", "real.near.svc.cluster.local", 1),
			asked: []question{
				{from: "near", name: "real.near.svc.cluster.local", want: "10.96.7.50"},
				{from: "other", name: "real.near.svc.cluster.local", want: "10.96.7.50"},
				{from: "far", name: "real.near.svc.cluster.local", want: "198.51.100.50"},
			},
		},
		{
			name: "Service before ServiceEntry in one namespace",
			objects: service("near", "decorated", "{clusterIP: 10.96.7.51, ports: ["+httpPort+"]}") +
				strings.Replace(entry("decorated", "addresses: [198.51.100.51]\nresolution: DNS"), "decorated.example.com", "decorated.near.svc.cluster.local", 1),
			asked: everywhere("decorated.near.svc.cluster.local", "10.96.7.51"),
		},
	}
}

// TestNames holds each rule by which istiod tells its agents what names resolve to, and what a VM of ours
// answers. Where the two differ, the case says why.
func TestNames(t *testing.T) {
	c := newCluster(t, namespaces...)
	cases := nameCases()
	for _, test := range cases {
		for _, object := range parse(t, test.objects) {
			if err := c.create(object); err != nil {
				t.Fatalf("%s: create %s %s: %v", test.name, object.GetKind(), object.GetName(), err)
			}
		}
	}
	tables := nameTables(t, c.all(), namespaces...)
	_, address, _ := c.syncer()
	machines := map[string]*machine{}
	for _, namespace := range namespaces {
		machines[namespace] = newMachine(t, namespace, address)
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			for _, question := range test.asked {
				istio := cmp.Or(question.istio, question.want)
				if got := lookup(tables[question.from], question.name); got != istio {
					t.Errorf("Istio's answer for %s from %s: got %q, want %q", question.name, question.from, got, istio)
				}
				if got := machines[question.from].resolve(t, question.name); got != question.want {
					t.Errorf("Answer for %s from %s: got %q, want %q", question.name, question.from, got, question.want)
				}
				if question.istio != "" && question.why == "" {
					t.Errorf("%s: it differs from Istio and does not say why", question.name)
				}
			}
		})
	}
}
