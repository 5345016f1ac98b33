package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/registry"
)

func TestStatusPage(t *testing.T) {
	s := start(t, nil)
	s.apply(service("prod", "reviews", "10.0.0.1", registry.Public()))
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod", Node: "<b>vm", Version: "v9"})
	v.until("the name", func() bool { return len(v.resources) == 1 })
	tests := map[string]struct {
		code int
		want string
	}{
		"/status":                       {http.StatusOK, "<h1>meshvm syncer</h1>"},
		"/status/api/overview":          {http.StatusOK, `"watchers":1,"views":1`},
		"/status/api/replica":           {http.StatusOK, `"version":"v1.2.3"`},
		"/status/api/vms":               {http.StatusOK, `"total":1,"matched":1,"page":1,"pages":1`},
		"/status/api/vms?filter=nobody": {http.StatusOK, `"matched":0,"page":1,"pages":1,"vms":[]`},
		"/status/api/vms?sort=color":    {http.StatusBadRequest, "want node"},
		"/status/api/vms?page=0":        {http.StatusBadRequest, "from 1"},
		"/status/api/names?prefix=Rev":  {http.StatusOK, `{"hosts":["reviews.prod.svc.cluster.local"],"more":false}`},
		"/status/api/names":             {http.StatusBadRequest, "prefix"},
		"/status/api/name?name=reviews.prod.svc.cluster.local": {http.StatusOK, `"winner": true`},
		"/status/api/vips":    {http.StatusOK, `"known":false`},
		"/status/api/nothing": {http.StatusNotFound, ""},
	}
	for path, test := range tests {
		t.Run(path, func(t *testing.T) {
			if code, body := s.get(path); code != test.code || !strings.Contains(body, test.want) {
				t.Errorf("GET %s = %d %s, want %d with %s", path, code, body, test.code, test.want)
			}
		})
	}
	recorder := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/status/api/vms", nil))
	if recorder.Code != http.StatusForbidden {
		t.Errorf("From elsewhere: %d, want 403", recorder.Code)
	}
}

// byToken allows by what the token is.
type byToken struct{}

func (byToken) AuthorizeHTTP(_ context.Context, token, _ string) error {
	switch token {
	case "good":
		return nil
	case "weak":
		return identity.Refuse(identity.ReasonForbidden, "may not get it")
	case "unknown":
		return errors.New("no API server")
	}
	return identity.Refuse(identity.ReasonUntrusted, "not of this cluster")
}

func TestHTTPAuthorization(t *testing.T) {
	server, err := New(registry.New(registry.Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	server.opts.HTTPAuthorizer = byToken{} // without the TLS that New wants
	for _, test := range []struct {
		path, header string
		code         int
	}{
		{"/healthz", "", http.StatusOK},
		{"/readyz", "", http.StatusServiceUnavailable},
		{"/status", "", http.StatusOK},
		{"/status/api/vms", "", http.StatusUnauthorized},
		{"/status/api/vms", "Bearer weak", http.StatusForbidden},
		{"/status/api/vms", "Bearer good", http.StatusOK},
		{"/status/events", "", http.StatusUnauthorized},
		{"/metrics", "", http.StatusUnauthorized},
		{"/metrics", "Basic good", http.StatusUnauthorized},
		{"/metrics", "Bearer bad", http.StatusUnauthorized},
		{"/metrics", "Bearer weak", http.StatusForbidden},
		{"/metrics", "Bearer unknown", http.StatusServiceUnavailable},
		{"/metrics", "Bearer good", http.StatusOK},
		{"/debug/registry?name=a", "Bearer good", http.StatusForbidden},
	} {
		t.Run(test.path+" "+test.header, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, test.path, nil)
			if test.header != "" {
				request.Header.Set("Authorization", test.header)
			}
			recorder := httptest.NewRecorder()
			server.Handler().ServeHTTP(recorder, request)
			if recorder.Code != test.code {
				t.Errorf("%d %s, want %d", recorder.Code, recorder.Body, test.code)
			}
			if asks := recorder.Header().Get("WWW-Authenticate") != ""; asks != (test.code == http.StatusUnauthorized) {
				t.Errorf("WWW-Authenticate %q with %d", recorder.Header().Get("WWW-Authenticate"), test.code)
			}
		})
	}
}

// TestReplicas: the page lists the endpoints of the syncers' Service, ready or not, by what they say of themselves.
func TestReplicas(t *testing.T) {
	s := start(t, func(o *Options) { o.Replicas = "meshvm/meshvm-syncer-metrics" })
	if code, body := s.get("/status/api/replica"); code != http.StatusOK || !strings.Contains(body, `"known":true,"replicas":[]`) {
		t.Errorf("before there are any: got %d %s", code, body)
	}
	s.apply(headless("meshvm", "meshvm-syncer-metrics"), endpointSlice("meshvm", "meshvm-syncer-metrics-1", "meshvm-syncer-metrics",
		&registryv1.Endpoint{Addresses: encodeAddresses("10.0.0.1"), Ready: true, Serving: true, Node: "a", Zone: "east"},
		&registryv1.Endpoint{Addresses: encodeAddresses("10.0.0.2"), Ready: true, Node: "b"},
		&registryv1.Endpoint{Addresses: encodeAddresses("10.0.0.3"), Serving: true, Terminating: true},
	))
	_, body := s.get("/status/api/replica")
	for _, want := range []string{
		`{"address":"10.0.0.1","node":"a","zone":"east","ready":true,"ending":false,"this":false}`,
		`{"address":"10.0.0.2","node":"b","zone":"","ready":false,"ending":false,"this":false}`,
		`{"address":"10.0.0.3","node":"","zone":"","ready":false,"ending":true,"this":false}`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s, want %s in it", body, want)
		}
	}
	other := start(t, nil)
	if _, body := other.get("/status/api/replica"); !strings.Contains(body, `"known":false,"replicas":[]`) {
		t.Errorf("without the Service's name: got %s", body)
	}
}
