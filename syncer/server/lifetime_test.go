package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
)

// endOf reads a stream to its end.
func endOf(stream registryv1.Registry_WatchClient) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// TestStreamsEndWithTheirRight ends the stream of a VM that may not watch any more, says why, and leaves all others alone.
func TestStreamsEndWithTheirRight(t *testing.T) {
	const account = "system:serviceaccount:prod:vm"
	tests := map[string]struct {
		happens func(*accounts)
		code    codes.Code
		reason  identity.Reason
	}{
		"the token is revoked":       {func(a *accounts) { delete(a.tokens, "prod") }, codes.Unauthenticated, identity.ReasonRevoked},
		"the right is taken away":    {func(a *accounts) { a.denied[account] = true }, codes.PermissionDenied, identity.ReasonForbidden},
		"the token's end comes near": {func(a *accounts) { a.tokens["prod"] = tokenOf("prod", "vm", time.Unix(1, 0)) }, codes.Unauthenticated, identity.ReasonExpired},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			directory := &accounts{tokens: map[string]identity.Identity{
				"prod": tokenOf("prod", "vm", time.Time{}), "dev": tokenOf("dev", "vm", time.Time{}),
			}, denied: map[string]bool{}}
			s := start(t, func(o *Options) { o.Tokens, o.Authorizer, o.Recheck = directory, directory, 10*time.Millisecond })
			watchWith := func(token string) registryv1.Registry_WatchClient {
				stream, _, err := arrive(t, s.dialWith(grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(withToken("Bearer "+token))), "")
				if err != nil {
					t.Fatal(err)
				}
				return stream
			}
			expelled, other := watchWith("prod"), watchWith("dev")
			// While nobody can tell, both go on.
			directory.edit(func(a *accounts) { a.broken = errors.New("the API server is away") })
			eventually(t, "rechecks that came to nothing", func() bool { return counterValue(t, s.server.metrics.undecided) >= 4 })
			if got := len(s.server.Watchers()); got != 2 {
				t.Fatalf("watchers while nobody can tell: got %d, want 2", got)
			}
			directory.edit(func(a *accounts) { a.broken = nil; test.happens(a) })

			err := endOf(expelled)
			reason, hint := reasonTold(err)
			if status.Code(err) != test.code || reason != strings.ToUpper(string(test.reason)) {
				t.Errorf("the stream's end: got %v with reason %q, want %v with %q", err, reason, test.code, test.reason)
			}
			if hint != 0 {
				t.Errorf("RetryInfo: got %s, want none: the VM may have a new credential", hint)
			}
			if got := counterValue(t, s.server.metrics.expelled.WithLabelValues(string(test.reason))); got != 1 {
				t.Errorf("expelled_total: got %v, want 1", got)
			}
			before := rounds(directory)
			eventually(t, "more rounds of rechecks", func() bool { return rounds(directory) > before+3 })
			if _, err := other.Recv(); err != nil {
				t.Errorf("the other stream: got %v, want it to go on", err)
			}
		})
	}
}

func rounds(a *accounts) (asked int) {
	a.edit(func(a *accounts) { asked = a.asked })
	return asked
}

func TestStreamsEndWhenTheirTokenDoes(t *testing.T) {
	directory := &accounts{tokens: map[string]identity.Identity{"prod": tokenOf("prod", "vm", time.Now().Add(200*time.Millisecond))}}
	s := start(t, func(o *Options) { o.Tokens = directory })
	stream, _, err := arrive(t, s.dialWith(grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(withToken("Bearer prod"))), "")
	if err == nil {
		err = endOf(stream)
	}
	if reason, _ := reasonTold(err); status.Code(err) != codes.Unauthenticated || reason != "EXPIRED" {
		t.Errorf("the stream's end: got %v with reason %q, want %v with EXPIRED", err, reason, codes.Unauthenticated)
	}
}

// TestTrustBundleIsReloaded keeps the streams of certificates that the new bundle trusts too, and ends the others.
func TestTrustBundleIsReloaded(t *testing.T) {
	staying, going := newAuthority(t, "staying"), newAuthority(t, "going")
	files := writeTLS(t, staying, staying)
	writeFile(t, files.ClientCA, append(staying.pem(), going.pem()...))
	s := start(t, func(o *Options) { o.TLS, o.Recheck = &files, 10*time.Millisecond })
	arriveAs := func(client *authority) registryv1.Registry_WatchClient {
		stream, _, err := arrive(t, s.dialWith(as(t, staying.pool(), client, "spiffe://cluster.local/ns/prod/sa/vm")), "prod")
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	stays, goes := arriveAs(staying), arriveAs(going)

	// Another serving certificate, and authorities in another order, are no reason to end anything.
	certificate, key := staying.issue("syncer", "")
	writeFile(t, files.Certificate, certificate)
	writeFile(t, files.Key, key)
	writeFile(t, files.ClientCA, append(going.pem(), staying.pem()...))
	_, before := s.server.certs.authorities()
	eventually(t, "the new bundle in use", func() bool { _, now := s.server.certs.authorities(); return now > before })
	if got := len(s.server.Watchers()); got != 2 {
		t.Fatalf("watchers after the rotation: got %d, want 2", got)
	}

	writeFile(t, files.ClientCA, staying.pem())
	err := endOf(goes)
	if reason, _ := reasonTold(err); status.Code(err) != codes.Unauthenticated || reason != "REVOKED" {
		t.Errorf("the stream of an authority that is not trusted any more: got %v with reason %q, want %v with REVOKED", err, reason, codes.Unauthenticated)
	}
	if _, err := stays.Recv(); err != nil {
		t.Errorf("the stream of one that still is: got %v, want it to go on", err)
	}
}

func TestTLSWithoutAnyCredentialIsRefusedAtStart(t *testing.T) {
	ours := newAuthority(t, "ours")
	files := writeTLS(t, ours, ours)
	files.ClientCA = ""
	options := Options{TLS: &files}
	if err := options.complete(); err == nil || !strings.Contains(err.Error(), "let everybody in") {
		t.Errorf("options: got %v, want a refusal", err)
	}
	options.Tokens = &accounts{}
	if err := options.complete(); err != nil {
		t.Errorf("options with tokens: got %v, want them accepted", err)
	}
}
