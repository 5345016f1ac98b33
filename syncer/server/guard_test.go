package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// startGuarded is a server whose registry has a guard and holds n Services of prod.
func startGuarded(t *testing.T, n int) *syncer {
	t.Helper()
	s := startUnsynced(t, registry.Options{Guard: registry.GuardOptions{Share: 0.5, Minimum: 4}}, nil)
	for i := range n {
		s.apply(guardedService(i))
	}
	s.source.Synced()
	return s
}

func guardedService(i int) registry.Update {
	return service("prod", fmt.Sprint("s", i), fmt.Sprint("10.0.0.", i), registry.Public())
}

// removeAll removes n Services at once.
func (s *syncer) removeAll(n int) {
	var updates []registry.Update
	for i := range n {
		updates = append(updates, registry.Update{Object: guardedService(i).Object})
	}
	s.apply(updates...)
}

func (s *syncer) post(path string) (code int, body string) {
	s.t.Helper()
	request := httptest.NewRequest(http.MethodPost, path, nil)
	request.RemoteAddr = "127.0.0.1:40000"
	return s.serve(local(request, "127.0.0.1:15055"))
}

// serve has the handler answer a request.
func (s *syncer) serve(request *http.Request) (code int, body string) {
	recorder := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(recorder, request)
	return recorder.Code, recorder.Body.String()
}

// local is a request that came to this address.
func local(request *http.Request, address string) *http.Request {
	request.Host = address
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	return request.WithContext(context.WithValue(request.Context(), http.LocalAddrContextKey, net.Addr(to)))
}

// report is what /debug/guard says of Services.
func (s *syncer) report() (guardReport, guardedKind) {
	s.t.Helper()
	code, body := s.get("/debug/guard")
	var report guardReport
	if err := json.Unmarshal([]byte(body), &report); err != nil || code != http.StatusOK {
		s.t.Fatalf("GET /debug/guard = %d %q: %v", code, body, err)
	}
	for _, kind := range report.Kinds {
		if kind.Kind == "Service" {
			return report, kind
		}
	}
	return report, guardedKind{}
}

func TestGuardHoldsAndReleases(t *testing.T) {
	s := startGuarded(t, 10)
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	v.until("all names", func() bool { return len(v.resources) == 10 })
	report, kind := s.report()
	if !report.Enabled || report.Share != 0.5 || report.Minimum != 4 || report.Window != "1m0s" || report.Hold != "10m0s" {
		t.Errorf("/debug/guard: got %+v, want what was configured", report)
	}
	if kind.Source != "manifests" || kind.Live != 10 || kind.Held != 0 || kind.For != nil || kind.Since != nil {
		t.Errorf("/debug/guard: got %+v, want 10 live and none held", kind)
	}

	s.removeAll(10)
	_, kind = s.report()
	if kind.Live != 0 || kind.Held != 10 || kind.For == nil || kind.For.Vanished != 10 || kind.For.Of != 10 || len(kind.Ends) != 2 || len(kind.Objects) != 10 {
		t.Errorf("/debug/guard: got %+v, want 10 held", kind)
	}
	if !strings.HasPrefix(kind.Objects[0], "Service prod/s") {
		t.Errorf("Held: got %s, want the objects' names", kind.Objects[0])
	}
	code, body := s.get("/debug/registry?name=s1.prod.svc.cluster.local")
	if code != http.StatusOK || !strings.Contains(body, "10.0.0.1") {
		t.Errorf("Explanation of a name that is held: got %d %s, want its address", code, body)
	}
	s.expectMetrics(
		`meshvm_syncer_guard_held_resources{kind="Service",source="manifests"} 10`,
		`meshvm_syncer_guard_holds_total{source="manifests"} 1`,
		`meshvm_syncer_guard_released_resources_total{reason="operator",source="manifests"} 0`,
	)

	for path, want := range map[string]string{
		"/guard/release?kind=Services":   `404 source "", kind "Services": the guard knows only ["manifests Service"]`,
		"/guard/release?source=cluster":  `404 source "cluster", kind ""`,
		"/guard/release?namespace=prod":  `400 parameter "namespace": want source or kind`,
		"/guard/release?kind=Service&x=": `400 parameter "x"`,
	} {
		code, body := s.post(path)
		if got := fmt.Sprintf("%d %s", code, body); !strings.HasPrefix(got, want) {
			t.Errorf("POST %s: got %s, want %s", path, got, want)
		}
	}
	if _, kind = s.report(); kind.Held != 10 {
		t.Errorf("Held after requests that are wrong: got %d, want 10", kind.Held)
	}
	if len(v.resources) != 10 {
		t.Errorf("Names of a VM while they are held: got %d, want 10", len(v.resources))
	}
	if code, body := s.post("/guard/release?source=manifests&kind=Service"); code != http.StatusOK || body != "released 10 resources\n" {
		t.Errorf("POST /guard/release: got %d %q, want 200 and 10 resources", code, body)
	}
	v.until("no names", func() bool { return len(v.resources) == 0 })
	s.expectMetrics(
		`meshvm_syncer_guard_held_resources{kind="Service",source="manifests"} 0`,
		`meshvm_syncer_guard_released_resources_total{reason="operator",source="manifests"} 10`,
	)
}

func (s *syncer) expectMetrics(want ...string) {
	s.t.Helper()
	_, body := s.get("/metrics")
	for _, line := range want {
		if !strings.Contains(body, "\n"+line+"\n") {
			s.t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestGuardThatIsOff(t *testing.T) {
	s := start(t, nil)
	if report, _ := s.report(); report.Enabled || len(report.Kinds) != 0 {
		t.Errorf("/debug/guard: got %+v, want it off", report)
	}
	if code, body := s.post("/guard/release"); code != http.StatusOK || body != "released 0 resources\n" {
		t.Errorf("POST /guard/release: got %d %q, want 200 and nothing released", code, body)
	}
}

func TestWhoMayRelease(t *testing.T) {
	tests := map[string]struct {
		peer, to, header, value string
		want                    int
	}{
		"this machine":                    {peer: "127.0.0.1:1", to: "127.0.0.1:2", want: http.StatusOK},
		"this machine, IPv6":              {peer: "[::1]:1", to: "[::1]:2", want: http.StatusOK},
		"this machine, IPv4 in IPv6":      {peer: "[::ffff:127.0.0.1]:1", to: "[::ffff:127.0.0.1]:2", want: http.StatusOK},
		"another machine":                 {peer: "192.0.2.1:1", to: "192.0.2.2:2", want: http.StatusForbidden},
		"another machine, IPv6":           {peer: "[2001:db8::1]:1", to: "[2001:db8::2]:2", want: http.StatusForbidden},
		"another machine at loopback":     {peer: "192.0.2.1:1", to: "127.0.0.1:2", want: http.StatusForbidden},
		"a mesh's proxy":                  {peer: "127.0.0.6:1", to: "192.0.2.2:2", want: http.StatusForbidden},
		"a proxy that says so":            {peer: "127.0.0.1:1", to: "127.0.0.1:2", header: "X-Forwarded-For", value: "192.0.2.1", want: http.StatusForbidden},
		"a proxy by the standard":         {peer: "127.0.0.1:1", to: "127.0.0.1:2", header: "Forwarded", value: "for=192.0.2.1", want: http.StatusForbidden},
		"a mesh's proxy at loopback":      {peer: "127.0.0.1:1", to: "127.0.0.1:2", header: "X-Envoy-Attempt-Count", value: "1", want: http.StatusForbidden},
		"a browser on somebody's page":    {peer: "127.0.0.1:1", to: "127.0.0.1:2", header: "Sec-Fetch-Site", value: "cross-site", want: http.StatusForbidden},
		"an old browser on such":          {peer: "127.0.0.1:1", to: "127.0.0.1:2", header: "Origin", value: "https://example.com", want: http.StatusForbidden},
		"a name for this machine":         {peer: "127.0.0.1:1", to: "127.0.0.1:2", header: "Host", value: "localhost:2", want: http.StatusOK},
		"somebody's name for it":          {peer: "127.0.0.1:1", to: "127.0.0.1:2", header: "Host", value: "example.com:2", want: http.StatusForbidden},
		"an address that cannot be read":  {peer: "@", to: "127.0.0.1:2", want: http.StatusForbidden},
		"a listener that has no address":  {peer: "127.0.0.1:1", want: http.StatusForbidden},
		"somebody who spoofs a loop back": {peer: "128.0.0.1:1", to: "127.0.0.1:2", want: http.StatusForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := startGuarded(t, 10)
			s.removeAll(10)
			request := httptest.NewRequest(http.MethodPost, "/guard/release", nil)
			request.RemoteAddr = test.peer
			if test.to != "" {
				request = local(request, test.to)
			}
			switch {
			case test.header == "Host":
				request.Host = test.value
			case test.header != "":
				request.Header.Set(test.header, test.value)
			}
			code, body := s.serve(request)
			if code != test.want {
				t.Errorf("POST /guard/release: got %d %q, want %d", code, body, test.want)
			}
			want := 10
			if test.want == http.StatusOK {
				want = 0
			}
			if _, kind := s.report(); kind.Held != want {
				t.Errorf("Held afterwards: got %d, want %d", kind.Held, want)
			}
		})
	}
	t.Run("over the wire", func(t *testing.T) {
		s := startGuarded(t, 10)
		s.removeAll(10)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
		response, err := client.Post(s.http+"/guard/release", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("POST /guard/release: got %s, want 200", response.Status)
		}
	})
	t.Run("nobody by GET", func(t *testing.T) {
		s := startGuarded(t, 10)
		if code, _ := s.get("/guard/release"); code != http.StatusMethodNotAllowed {
			t.Errorf("GET /guard/release: got %d, want 405", code)
		}
	})
}
