package server

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// watchAs begins a watch with a client certificate with this SPIFFE ID, and reports how the first answer went.
func (s *syncer) watchAs(t *testing.T, ours *authority, uri string) (registryv1.Registry_WatchClient, error) {
	t.Helper()
	stream, err := s.dialWith(as(t, ours.pool(), ours, uri)).Watch(t.Context())
	if err != nil {
		return nil, err
	}
	_ = stream.Send(helloOf(&registryv1.Hello{})) // Recv says why
	_, err = stream.Recv()
	return stream, err
}

func TestTrustDomains(t *testing.T) {
	ours := newAuthority(t, "ours")
	files := writeTLS(t, ours, ours)
	s := start(t, func(o *Options) { o.TLS = &files })
	for _, test := range []struct {
		name    string
		trusted []string
		uri     string
		want    codes.Code
	}{
		{"none is known", nil, "spiffe://other/ns/prod/sa/vm", codes.OK},
		{"the mesh's", []string{"td", "old"}, "spiffe://td/ns/prod/sa/vm", codes.OK},
		{"an alias", []string{"td", "old"}, "spiffe://old/ns/prod/sa/vm", codes.OK},
		{"another", []string{"td", "old"}, "spiffe://other/ns/prod/sa/vm", codes.PermissionDenied},
		{"one below it", []string{"td"}, "spiffe://a.td/ns/prod/sa/vm", codes.PermissionDenied},
		{"with a port", []string{"td"}, "spiffe://td:443/ns/prod/sa/vm", codes.PermissionDenied},
		{"in capitals, which is another", []string{"td"}, "spiffe://TD/ns/prod/sa/vm", codes.PermissionDenied},
		{"no SPIFFE ID", []string{"td"}, "", codes.OK},
		{"none is known any more", nil, "spiffe://other/ns/prod/sa/vm", codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.server.SetTrustDomains(test.trusted...)
			_, err := s.watchAs(t, ours, test.uri)
			if status.Code(err) != test.want {
				t.Errorf("Watch: got %v, want %v", err, test.want)
			}
			if test.want == codes.OK {
				return
			}
			for _, want := range append([]string{test.uri, "trust domain"}, test.trusted...) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error: got %v, want it to name %s", err, want)
				}
			}
		})
	}
}

// TestATrustDomainThatChanges ends the streams of identities that are no longer taken, and no other.
func TestATrustDomainThatChanges(t *testing.T) {
	ours := newAuthority(t, "ours")
	files := writeTLS(t, ours, ours)
	s := start(t, func(o *Options) { o.TLS = &files })
	former, err := s.watchAs(t, ours, "spiffe://td/ns/prod/sa/vm")
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.watchAs(t, ours, "spiffe://new/ns/prod/sa/vm")
	if err != nil {
		t.Fatal(err)
	}
	s.server.SetTrustDomains("new")
	for err == nil {
		_, err = former.Recv()
	}
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), `trust domain "td"`) {
		t.Errorf("stream of the former trust domain: got %v, want it to end as denied", err)
	}
	// A heartbeat, at least, follows on the other one.
	if _, err := next.Recv(); err != nil {
		t.Errorf("stream of the new trust domain: got %v, want it to go on", err)
	}
}
