package registryv1_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func soundService() *registryv1.Service {
	return &registryv1.Service{
		Host: "web.prod.svc.cluster.local", Namespace: "prod", Name: "web",
		Addresses: [][]byte{{10, 0, 0, 1}}, Ports: []*registryv1.Port{{Name: "http", Number: 80, Target: 8080}},
	}
}

func soundSlice() *registryv1.EndpointSlice {
	return &registryv1.EndpointSlice{
		Namespace: "prod", Name: "db-1", Service: "db",
		Endpoints: []*registryv1.Endpoint{{Addresses: [][]byte{{10, 0, 0, 1}}, Hostname: "db-0", Zone: "a", Node: "node-1"}},
		Ports:     []*registryv1.Port{{}},
	}
}

func ofService(edit func(*registryv1.Service)) *registryv1.Body {
	s := soundService()
	edit(s)
	return &registryv1.Body{Body: &registryv1.Body_Service{Service: s}}
}

func ofSlice(edit func(*registryv1.EndpointSlice)) *registryv1.Body {
	s := soundSlice()
	edit(s)
	return &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: s}}
}

func ofNamespace(name string) *registryv1.Body {
	return &registryv1.Body{Body: &registryv1.Body_Namespace{Namespace: &registryv1.Namespace{Name: name}}}
}

func ofAddress(text string) *registryv1.Body {
	return ofService(func(s *registryv1.Service) { s.Addresses = [][]byte{netip.MustParseAddr(text).AsSlice()} })
}

func ofHost(host string) *registryv1.Body {
	return ofService(func(s *registryv1.Service) { s.Host = host })
}

func TestCheckResource(t *testing.T) {
	const key = "Service/prod/web"
	addresses := func(count int) (all [][]byte) {
		for i := range count {
			all = append(all, []byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		}
		return all
	}
	ports := func(count int) []*registryv1.Port { return slices.Repeat([]*registryv1.Port{{Number: 1}}, count) }
	long := strings.Repeat("a", registryv1.MaxLabel)
	tests := []struct {
		name    string
		key     string
		encoded int
		body    *registryv1.Body
		fault   registryv1.Fault
	}{
		{"a Service", key, 1, ofService(func(*registryv1.Service) {}), ""},
		{"a slice", key, 1, ofSlice(func(*registryv1.EndpointSlice) {}), ""},
		{"a Namespace", key, 1, ofNamespace("prod"), ""},
		{"a kind from the future", key, 1, &registryv1.Body{}, ""},
		{"enumerations from the future", key, 1, ofService(func(s *registryv1.Service) { s.Origin, s.AddressKind, s.Ports[0].Protocol = 99, 99, 99 }), ""},
		{"as much as there may be", strings.Repeat("k", registryv1.MaxKey), registryv1.MaxBody, ofService(func(s *registryv1.Service) {
			s.Addresses, s.Ports = addresses(registryv1.MaxAddresses), ports(registryv1.MaxTargets/registryv1.MaxAddresses)
		}), ""},

		{"no key", "", 1, ofNamespace("prod"), registryv1.FaultKey},
		{"a key too long", strings.Repeat("k", registryv1.MaxKey+1), 1, ofNamespace("prod"), registryv1.FaultKey},
		{"a key that moves the cursor", "Service/\x1b[2J", 1, ofNamespace("prod"), registryv1.FaultKey},
		{"a key that is not ASCII", "Service/prod/wéb", 1, ofNamespace("prod"), registryv1.FaultKey},
		{"no body", key, 0, nil, registryv1.FaultBody},
		{"a body too large", key, registryv1.MaxBody + 1, ofNamespace("prod"), registryv1.FaultSize},

		{"a wildcard", key, 1, ofHost("*.example.com"), ""},
		{"an underscore", key, 1, ofHost("_sip._tcp.example.com"), ""},
		{"no host", key, 1, ofHost(""), registryv1.FaultName},
		{"every name there is", key, 1, ofHost("*"), registryv1.FaultName},
		{"a wildcard inside", key, 1, ofHost("a.*.example.com"), registryv1.FaultName},
		{"a wildcard twice", key, 1, ofHost("*.*.example.com"), registryv1.FaultName},
		{"a wildcard over nothing", key, 1, ofHost("*."), registryv1.FaultName},
		{"a trailing dot", key, 1, ofHost("example.com."), registryv1.FaultName},
		{"an empty label", key, 1, ofHost("a..b"), registryv1.FaultName},
		{"a label too long", key, 1, ofHost(long + "a.b"), registryv1.FaultName},
		{"a name too long", key, 1, ofHost(strings.Repeat(long+".", 3) + long), registryv1.FaultName},
		{"as many labels as there may be", key, 1, ofHost(strings.Repeat("a.", registryv1.MaxLabels-1) + "b"), ""},
		{"too many labels", key, 1, ofHost(strings.Repeat("a.", registryv1.MaxLabels) + "b"), registryv1.FaultName},
		{"too many labels of an endpoint", key, 1, ofSlice(func(s *registryv1.EndpointSlice) {
			s.Endpoints[0].Name = strings.Repeat("a.", registryv1.MaxLabels) + "b"
		}), registryv1.FaultName},
		{"upper case", key, 1, ofHost("Example.com"), registryv1.FaultName},
		{"a control character", key, 1, ofHost("a\n.b"), registryv1.FaultName},
		{"not ASCII", key, 1, ofHost("bücher.example"), registryv1.FaultName},
		{"an alias", key, 1, ofService(func(s *registryv1.Service) { s.ExternalName = "db.example.com" }), ""},
		{"an alias of a wildcard", key, 1, ofService(func(s *registryv1.Service) { s.ExternalName = "*.example.com" }), registryv1.FaultName},
		{"a namespace of two labels", key, 1, ofNamespace("a.b"), registryv1.FaultName},
		{"an object of no namespace", key, 1, ofService(func(s *registryv1.Service) { s.Namespace = "" }), registryv1.FaultName},
		{"an object with a name that is none", key, 1, ofService(func(s *registryv1.Service) { s.Name = "a/b" }), registryv1.FaultName},
		{"an object of a name with a long label", key, 1, ofService(func(s *registryv1.Service) { s.Name = "db." + strings.Repeat("a", 100) }), ""},
		{"an object of a name too long", key, 1, ofService(func(s *registryv1.Service) { s.Name = strings.Repeat("a", registryv1.MaxText+1) }), registryv1.FaultName},
		{"an object of no name", key, 1, ofService(func(s *registryv1.Service) { s.Name = "" }), ""},
		{"a slice of no Service", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Service = "" }), registryv1.FaultName},
		{"a hostname of two labels", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Endpoints[0].Hostname = "a.b" }), registryv1.FaultName},
		{"an endpoint's name of two labels", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Endpoints[0].Name = "a.b" }), ""},
		{"an endpoint's name that is none", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Endpoints[0].Name = "a b" }), registryv1.FaultName},
		{"a cluster that moves the cursor", key, 1, ofService(func(s *registryv1.Service) { s.Cluster = "\x1b[2J" }), registryv1.FaultBody},
		{"a zone too long", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Endpoints[0].Zone = strings.Repeat("z", registryv1.MaxText+1) }), registryv1.FaultBody},
		{"a node of two lines", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Endpoints[0].Node = "a\nb" }), registryv1.FaultBody},

		{"a loopback address", key, 1, ofAddress("127.0.0.1"), ""},
		{"a link-local address", key, 1, ofAddress("fe80::1"), ""},
		{"an address of class E", key, 1, ofAddress("240.240.0.1"), ""},
		{"three bytes", key, 1, ofService(func(s *registryv1.Service) { s.Addresses = [][]byte{{1, 2, 3}} }), registryv1.FaultAddress},
		{"no bytes", key, 1, ofService(func(s *registryv1.Service) { s.Addresses = [][]byte{nil} }), registryv1.FaultAddress},
		{"the unspecified address", key, 1, ofAddress("0.0.0.0"), registryv1.FaultAddress},
		{"the unspecified address of IPv6", key, 1, ofAddress("::"), registryv1.FaultAddress},
		{"the unspecified address of IPv4 in IPv6", key, 1, ofAddress("::ffff:0.0.0.0"), registryv1.FaultAddress},
		{"a multicast address", key, 1, ofAddress("224.0.0.251"), registryv1.FaultAddress},
		{"a multicast address of IPv6", key, 1, ofAddress("ff02::fb"), registryv1.FaultAddress},
		{"the broadcast address", key, 1, ofAddress("255.255.255.255"), registryv1.FaultAddress},
		{"an endpoint's address", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Endpoints[0].Addresses = [][]byte{{0, 0, 0, 0}} }), registryv1.FaultAddress},

		{"a port too high", key, 1, ofService(func(s *registryv1.Service) { s.Ports[0].Number = 65536 }), registryv1.FaultPort},
		{"a target port too high", key, 1, ofSlice(func(s *registryv1.EndpointSlice) { s.Ports[0].Target = 1 << 20 }), registryv1.FaultPort},
		{"a port's name that no record has", key, 1, ofService(func(s *registryv1.Service) { s.Ports[0].Name = "Not a label" }), ""},
		{"a port's name that moves the cursor", key, 1, ofService(func(s *registryv1.Service) { s.Ports[0].Name = "\x1b[2J" }), registryv1.FaultBody},

		{"too many addresses", key, 1, ofService(func(s *registryv1.Service) { s.Addresses = addresses(registryv1.MaxAddresses + 1) }), registryv1.FaultSize},
		{"too many ports", key, 1, ofService(func(s *registryv1.Service) { s.Ports = ports(registryv1.MaxPorts + 1) }), registryv1.FaultSize},
		{"too many addresses at too many ports", key, 1, ofService(func(s *registryv1.Service) {
			s.Addresses, s.Ports = addresses(registryv1.MaxAddresses), ports(registryv1.MaxTargets/registryv1.MaxAddresses+1)
		}), registryv1.FaultSize},
		{"too many endpoints", key, 1, ofSlice(func(s *registryv1.EndpointSlice) {
			s.Endpoints = slices.Repeat([]*registryv1.Endpoint{{}}, registryv1.MaxEndpoints+1)
		}), registryv1.FaultSize},
		{"too many addresses of endpoints", key, 1, ofSlice(func(s *registryv1.EndpointSlice) {
			s.Endpoints = slices.Repeat([]*registryv1.Endpoint{{Addresses: addresses(64)}}, registryv1.MaxAddresses/64+1)
		}), registryv1.FaultSize},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := registryv1.CheckResource(test.key, test.encoded, test.body)
			var got registryv1.Fault
			if found, is := errors.AsType[*registryv1.ResourceError](err); is {
				got = found.Fault
			}
			if got != test.fault || (err != nil) != (test.fault != "") {
				t.Errorf("CheckResource: got fault %q (%v), want %q", got, err, test.fault)
			}
			if said := fmt.Sprint(err); strings.ContainsAny(said, "\x1b\n") || len(said) > 1024 {
				t.Errorf("Error: got %q, want one printable line", said)
			}
		})
	}
}
