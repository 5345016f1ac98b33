package mirror

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// port is a port written as NAME:NUMBER/PROTOCOL.
func port(text string) *registryv1.Port {
	name, rest, _ := strings.Cut(text, ":")
	var number uint32
	var protocol string
	if _, err := fmt.Sscanf(strings.ReplaceAll(rest, "/", " "), "%d %s", &number, &protocol); err != nil {
		panic(err)
	}
	return &registryv1.Port{Name: name, Number: number, Protocol: registryv1.Protocol(registryv1.Protocol_value["PROTOCOL_"+strings.ToUpper(protocol)])}
}

// withPorts is a Service or an EndpointSlice with these ports and no others.
func withPorts(r *registryv1.Resource, texts ...string) *registryv1.Resource {
	body := &registryv1.Body{}
	if err := proto.Unmarshal(r.GetBody(), body); err != nil {
		panic(err)
	}
	ports := make([]*registryv1.Port, 0, len(texts))
	for _, text := range texts {
		ports = append(ports, port(text))
	}
	if service := body.GetService(); service != nil {
		service.Ports = ports
	} else {
		body.GetEndpointSlice().Ports = ports
	}
	return resourceOf(r.GetKey(), body)
}

// targetsOf is the targets of a host's port as text, with their rows: `ROWS: TARGET:PORT ...`.
func targetsOf(s *State, host, name, protocol string) string {
	h := s.Host(host)
	if h == nil {
		return "no host"
	}
	targets, rows, found := s.Targets(h, name, protocol)
	if !found {
		return "none"
	}
	text := fmt.Sprintf("%d:", rows)
	for _, target := range targets {
		label, _, _ := strings.Cut(target.Host.FQDN(), ".")
		text += fmt.Sprintf(" %s:%d", label, target.Port)
	}
	return text
}

func TestTargets(t *testing.T) {
	m := loaded(t,
		withPorts(kubernetesService("prod", "web", "10.0.0.1", "2001:db8::1"), "http:80/tcp", "metrics:9090/tcp", "dns:53/tcp", "dns-udp:53/udp"),
		withPorts(kubernetesService("prod", "plain", "10.0.0.2"), ":80/tcp"),
		withPorts(kubernetesService("prod", "portless", "10.0.0.3")),
		serviceResource(registryv1.ServiceKey("", "prod", "alias"), &registryv1.Service{
			Host: "alias.prod.svc.cluster.local", Namespace: "prod", Name: "alias", Origin: registryv1.Origin_ORIGIN_KUBERNETES,
			ExternalName: "example.com", Ports: []*registryv1.Port{port("http:80/tcp")},
		}),
		headlessService("prod", "db"),
		withPorts(endpointSlice("prod", "db-1", "db", ready("db-1", "10.1.0.1"), ready("db-0", "10.1.0.2"), notReady("db-2", "10.1.0.3")), "sql:3306/tcp", "metrics:9090/tcp"),
		withPorts(endpointSlice("prod", "db-2", "db", ready("db-0", "2001:db8::2")), "sql:3306/tcp"),
		withPorts(endpointSlice("prod", "db-3", "db", ready("", "10.1.0.4")), ":0/tcp"),
		endpointSlice("prod", "db-4", "db", ready("", "10.1.0.5")),
		entryResource(func() *registryv1.Service {
			s := entry("prod", "api", "api.example.com", "192.0.2.1")
			s.Ports = []*registryv1.Port{port("https:443/tcp")}
			return s
		}()),
		entryResource(func() *registryv1.Service {
			s := entry("prod", "api-more", "api.example.com", "192.0.2.2")
			s.Ports = []*registryv1.Port{port("https:443/tcp"), port("quic:443/udp")}
			return s
		}()),
		withPorts(serviceEntry("prod", "odd", "odd.example.com", "192.0.2.3"), "Bad Name:80/tcp"),
	)
	const web, db = "web.prod.svc.cluster.local", "db.prod.svc.cluster.local"
	tests := map[string]struct{ host, name, protocol, want string }{
		"a port, once for all addresses":        {web, "http", "tcp", "2: web:80"},
		"of another protocol":                   {web, "http", "udp", "none"},
		"unknown":                               {web, "nope", "tcp", "none"},
		"any port":                              {web, "", "", "8: web:80 web:9090 web:53"},
		"any port of a protocol":                {web, "", "udp", "2: web:53"},
		"any protocol of a port":                {web, "dns-udp", "", "2: web:53"},
		"port without a name":                   {"plain.prod.svc.cluster.local", "", "", "1: plain:80"},
		"service without ports":                 {"portless.prod.svc.cluster.local", "", "", "1: portless:0"},
		"service without ports, by name":        {"portless.prod.svc.cluster.local", "http", "tcp", "none"},
		"alias":                                 {"alias.prod.svc.cluster.local", "", "", "none"},
		"headless":                              {db, "sql", "tcp", "3: db-0:3306 db-1:3306"},
		"headless, a port of some":              {db, "metrics", "tcp", "2: db-0:9090 db-1:9090"},
		"headless, any port":                    {db, "", "", "7: 10-1-0-4:0 10-1-0-5:0 db-0:3306 db-0:9090 db-1:3306 db-1:9090"},
		"headless, unknown":                     {db, "nope", "tcp", "none"},
		"endpoint":                              {"db-0." + db, "", "", "3: db-0:3306 db-0:9090"},
		"endpoint without ports":                {"10-1-0-5." + db, "", "", "1: 10-1-0-5:0"},
		"endpoint with every port":              {"10-1-0-4." + db, "", "tcp", "1: 10-1-0-4:0"},
		"ServiceEntries joined":                 {"api.example.com", "https", "tcp", "2: api:443"},
		"ServiceEntries joined, the other port": {"api.example.com", "quic", "udp", "2: api:443"},
		"no name that DNS could hold":           {"odd.example.com", "", "tcp", "1: odd:80"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := targetsOf(m.State(), tc.host, tc.name, tc.protocol); got != tc.want {
				t.Errorf("Targets(%s, %q, %q): got %q, want %q", tc.host, tc.name, tc.protocol, got, tc.want)
			}
		})
	}
}

// TestTargetsFollowChanges asks before and after, because targets are kept once they were asked for.
func TestTargetsFollowChanges(t *testing.T) {
	const db = "db.prod.svc.cluster.local"
	first := withPorts(endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")), "sql:3306/tcp")
	m := loaded(t, headlessService("prod", "db"), first)
	steps := []struct {
		name     string
		removals []string
		upserts  []*registryv1.Resource
		want     string
	}{
		{"at first", nil, nil, "1: db-0:3306"},
		{"one more slice", nil, []*registryv1.Resource{withPorts(endpointSlice("prod", "db-2", "db", ready("db-1", "10.1.0.2")), "sql:3306/tcp")}, "2: db-0:3306 db-1:3306"},
		{"another number", nil, []*registryv1.Resource{withPorts(endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")), "sql:3307/tcp")}, "2: db-0:3307 db-1:3306"},
		{"another name", nil, []*registryv1.Resource{withPorts(endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")), "mysql:3307/tcp")}, "1: db-1:3306"},
		{"that slice gone", []string{registryv1.EndpointSliceKey("", "prod", "db-2")}, nil, "none"},
		{"as it was", nil, []*registryv1.Resource{first}, "1: db-0:3306"},
	}
	for _, step := range steps {
		old := m.State()
		before := targetsOf(old, db, "sql", "tcp")
		mustApply(t, m, delta(m.State(), step.removals, step.upserts...))
		if got := targetsOf(m.State(), db, "sql", "tcp"); got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
		if got := targetsOf(old, db, "sql", "tcp"); got != before {
			t.Errorf("%s: the old State now says %q, want %q as before", step.name, got, before)
		}
	}
}

func TestPorts(t *testing.T) {
	m := loaded(t,
		withPorts(kubernetesService("prod", "web", "10.0.0.1"), "http:80/tcp", ":81/tcp", "dns:53/udp", "dns:53/tcp"),
		headlessService("prod", "db"),
		withPorts(endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2")), "sql:3306/tcp"),
		withPorts(endpointSlice("prod", "db-2", "db", ready("db-2", "10.1.0.3")), "sql:3307/tcp", "admin:33060/tcp"),
	)
	tests := map[string]struct{ host, want string }{
		"named ones":    {"web.prod.svc.cluster.local", "[{dns tcp 0} {http tcp 0} {dns udp 0}]"},
		"of all slices": {"db.prod.svc.cluster.local", "[{admin tcp 0} {sql tcp 0}]"},
		"endpoint":      {"db-0.db.prod.svc.cluster.local", "[]"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(m.State().Host(tc.host).Ports()); got != tc.want {
				t.Errorf("Ports: got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	m := loaded(t,
		headlessService("prod", "db"), kubernetesService("prod", "web", "10.0.0.1"),
		endpointSlice("prod", "db-1", "db", ready("b", "10.1.0.1"), ready("c", "10.1.0.2"), ready("a", "10.1.0.3"), notReady("d", "10.1.0.4")),
	)
	var got []string
	for _, endpoint := range m.State().Host("db.prod.svc.cluster.local").Endpoints() {
		label, _, _ := strings.Cut(endpoint.FQDN(), ".")
		got = append(got, label)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("Endpoints: got %q, want %q", got, want)
	}
	if got := m.State().Host("web.prod.svc.cluster.local").Endpoints(); got != nil {
		t.Errorf("Endpoints of a Service with a cluster IP: got %v, want nil", got)
	}
}

// TestEqualPortsAreOne holds that services with the same ports do not pay for them each.
func TestEqualPortsAreOne(t *testing.T) {
	m := loaded(t, kubernetesService("prod", "a", "10.0.0.1"), kubernetesService("dev", "b", "10.0.0.2"))
	a, b := m.State().Host("a.prod.svc.cluster.local"), m.State().Host("b.dev.svc.cluster.local")
	if a.ports == (ports{}) || a.ports != b.ports {
		t.Errorf("Ports: got %v and %v, want one list", a.ports, b.ports)
	}
}
