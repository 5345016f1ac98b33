package watch

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// refusedWith is what a syncer ends a stream with that it does not allow.
func refusedWith(t *testing.T, code codes.Code, reason string, hint time.Duration) error {
	t.Helper()
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: registryv1.ErrorDomain, Reason: reason}}
	if hint > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(hint)})
	}
	said, err := status.New(code, "the syncer's words").WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return said.Err()
}

func bearer(c *call) string {
	if got := c.metadata.Get("authorization"); len(got) == 1 {
		return strings.TrimPrefix(got[0], "Bearer ")
	}
	return ""
}

// TestTokenIsRenewed holds that a stream goes over to a newer token some time before its own ends, and only then.
func TestTokenIsRenewed(t *testing.T) {
	a := service("a", 1)
	tests := []struct {
		name string
		// left is what the token in use has left, and renewed what the next one has. Zero: it is no JWT.
		left, renewed time.Duration
		// after is when the stream is opened anew, give or take what it takes to notice. Zero: not at all.
		after time.Duration
	}{
		{"a long time before its end", time.Hour, 2 * time.Hour, 5 * time.Minute},
		{"halfway to its end", 4 * time.Minute, time.Hour, 2 * time.Minute},
		{"by one of unknown end", time.Hour, 0, 5 * time.Minute},
		{"by one that ends earlier", time.Hour, 30 * time.Minute, 0},
		{"where nobody knows when it ends", 0, time.Hour, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			write := func(left time.Duration, name string) string {
				token := "opaque-" + name
				if left > 0 {
					token = newToken(t, time.Now(), time.Now().Add(left))
				}
				writeFile(t, file+".new", token)
				if err := os.Rename(file+".new", file); err != nil {
					t.Fatal(err)
				}
				return token
			}
			edit := func(config *Config) {
				write(test.left, "old")
				config.TokenFile = file
			}
			inVirtualTimeWith(t, newMirror(), []string{first}, edit, func(v *virtual) {
				call := v.only().next(v.t)
				call.sync(v.t, 3, a)
				time.Sleep(time.Second)
				began, renewed := time.Now(), write(test.renewed, "new")
				if test.after == 0 {
					for range 4 {
						time.Sleep(5 * time.Second)
						call.send(v.t, proof(3, a))
					}
					if got := v.recorder.count("disconnected " + first + " renewed"); got != 0 {
						v.t.Errorf("renewals: got %d, want none", got)
					}
					return
				}
				var beating sync.WaitGroup
				defer beating.Wait()
				beating.Go(func() {
					// It fails when the client has gone on.
					for call.stream.Send(proof(3, a)) == nil {
						time.Sleep(5 * time.Second)
					}
				})
				_, again := v.next()
				if took := time.Since(began); took < test.after || took > test.after+3*time.Second {
					v.t.Errorf("renewed after %v, want %v", took, test.after)
				}
				if got := bearer(again); got != renewed {
					v.t.Errorf("token: got %q, want %q", got, renewed)
				}
				if got := again.hello.GetPosition().GetRevision(); got != 3 {
					v.t.Errorf("Hello has revision %d, want 3", got)
				}
				mustHold(v.t, v.mirror, 3, "a")
				again.send(v.t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, a))
				v.settle()
				if got := v.client.Status(); !got.Synced || got.Problem != nil || got.LastError != "" {
					v.t.Errorf("status: got %+v, want in step and no fault", got)
				}
				if got := v.log.lines("level=WARN"); len(got) > 0 {
					v.t.Errorf("warnings: got %q, want none", got)
				}
			})
		})
	}
}

// TestExpiredTokenWithANewerOne holds that a stream which ends for a token that is not the file's any more is opened
// again at once.
func TestExpiredTokenWithANewerOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	edit := func(config *Config) {
		config.TokenFile = writeFile(t, file, newToken(t, time.Now(), time.Now().Add(time.Hour)))
	}
	a := service("a", 1)
	inVirtualTimeWith(t, newMirror(), []string{first}, edit, func(v *virtual) {
		call := v.only().next(v.t)
		call.sync(v.t, 3, a)
		time.Sleep(10 * time.Second)
		v.settle()
		renewed := newToken(v.t, time.Now(), time.Now().Add(2*time.Hour))
		writeFile(v.t, file, renewed)
		ended := time.Now()
		call.end <- refusedWith(v.t, codes.Unauthenticated, registryv1.RefusedExpired, time.Minute)
		call = v.only().next(v.t)
		if took := time.Since(ended); took != 0 {
			v.t.Errorf("opened anew after %v, want at once", took)
		}
		if got := bearer(call); got != renewed {
			v.t.Errorf("token: got %q, want the newer one", got)
		}
	})
}

func TestRefusalsBackOffLong(t *testing.T) {
	seconds := func(times ...int) (all []time.Duration) {
		for _, s := range times {
			all = append(all, time.Duration(s)*time.Second)
		}
		return all
	}
	tests := []struct {
		name   string
		code   codes.Code
		reason string
		hint   time.Duration
		want   []time.Duration
	}{
		{"an identity that is not believed", codes.Unauthenticated, registryv1.RefusedUntrusted, 0, seconds(10, 20, 40, 80, 160, 300, 300)},
		{"one that may not watch", codes.PermissionDenied, registryv1.RefusedForbidden, 0, seconds(10, 20, 40)},
		{"a syncer that asks for more", codes.PermissionDenied, registryv1.RefusedForbidden, 30 * time.Second, seconds(30, 30, 40)},
		{"a syncer that asks for too much", codes.PermissionDenied, registryv1.RefusedForbidden, 24 * time.Hour, seconds(300, 300)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
				var got []time.Duration
				v.only().next(v.t).end <- refusedWith(v.t, test.code, test.reason, test.hint)
				for last := time.Now(); len(got) < len(test.want); last = time.Now() {
					_, call := v.next()
					got = append(got, time.Since(last))
					call.end <- refusedWith(v.t, test.code, test.reason, test.hint)
				}
				if !slices.Equal(got, test.want) {
					v.t.Errorf("delays: got %v, want %v", got, test.want)
				}
				v.settle()
				problem := v.client.Status().Problem
				if problem == nil || problem.Reason != test.reason || !strings.Contains(problem.Message, "the syncer's words") || problem.Remedy == "" {
					v.t.Errorf("problem: got %+v, want reason %s, the syncer's words and a remedy", problem, test.reason)
				}
				if lines := v.log.lines("level=WARN", "the syncer's words", "remedy="); len(lines) == 0 || len(lines) > len(got)+1 {
					v.t.Errorf("warnings: got %d, want some and no more than refusals; log:\n%s", len(lines), v.log)
				}
			})
		})
	}

	t.Run("another syncer is tried at once, and the refusal stays in status while that one is away", func(t *testing.T) {
		inVirtualTime(t, newMirror(), []string{first, second}, func(v *virtual) {
			began := time.Now()
			refusing, call := v.next()
			call.end <- refusedWith(v.t, codes.PermissionDenied, registryv1.RefusedForbidden, 0)
			address, call := v.next()
			if took := time.Since(began); address != other(refusing) || took != 0 {
				v.t.Errorf("next is %s after %v, want %s at once", address, took, other(refusing))
			}
			call.end <- errShutdown
			address, call = v.next()
			if took := time.Since(began); address != other(refusing) || took > time.Second {
				v.t.Errorf("next is %s after %v, want %s within a second", address, took, other(refusing))
			}
			if problem := v.client.Status().Problem; problem == nil || problem.Reason != registryv1.RefusedForbidden {
				v.t.Errorf("problem: got %+v, want the refusal", problem)
			}
			call.sync(v.t, 3, service("a", 1))
			v.settle()
			if problem := v.client.Status().Problem; problem != nil {
				v.t.Errorf("problem in step: got %+v, want none", problem)
			}
		})
	})
}

// TestChangedFileEndsTheWait holds that whoever renews a credential does not wait for the back-off.
func TestChangedFileEndsTheWait(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	edit := func(config *Config) {
		config.TokenFile = writeFile(t, file, newToken(t, time.Now(), time.Now().Add(time.Hour)))
	}
	inVirtualTimeWith(t, newMirror(), []string{first, second}, edit, func(v *virtual) {
		for range 12 {
			_, call := v.next()
			call.end <- refusedWith(v.t, codes.Unauthenticated, registryv1.RefusedRevoked, 0)
		}
		time.Sleep(10 * time.Second)
		v.settle()
		began, renewed := time.Now(), newToken(v.t, time.Now(), time.Now().Add(2*time.Hour))
		writeFile(v.t, file, renewed)
		_, call := v.next()
		if took := time.Since(began); took > 2*time.Second {
			v.t.Errorf("tried again after %v, want within 2s", took)
		}
		if got := bearer(call); got != renewed {
			v.t.Errorf("token: got %q, want the newer one", got)
		}
		call.end <- refusedWith(v.t, codes.Unauthenticated, registryv1.RefusedRevoked, 0)
		_, call = v.next() // the other syncer, which refused the old one
		if took := time.Since(began); took > 2*time.Second {
			v.t.Errorf("the other was tried after %v, want within 2s", took)
		}
		call.end <- refusedWith(v.t, codes.Unauthenticated, registryv1.RefusedRevoked, 0)
	})
}

// TestSuspendedPastTheTokensLife has the time of day jump past the end of a token, as on a VM that was suspended.
func TestSuspendedPastTheTokensLife(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	var token string
	edit := func(config *Config) {
		token = newToken(t, time.Now(), time.Now().Add(24*time.Hour))
		config.TokenFile = writeFile(t, file, token)
	}
	const command = "meshvmctl token --namespace prod --service-account billing --out "
	inVirtualTimeWith(t, newMirror(), []string{first}, edit, func(v *virtual) {
		call := v.only().next(v.t)
		call.sync(v.t, 3, service("a", 1))
		v.settle()
		mustLog := func(when string, warnings, errors int) {
			v.t.Helper()
			time.Sleep(3 * time.Second)
			v.settle()
			if got := len(v.log.lines("level=WARN", "ends soon", command+file)); got != warnings {
				v.t.Errorf("warnings %s: got %d, want %d; log:\n%s", when, got, warnings, v.log)
			}
			if got := len(v.log.lines("level=ERROR", "has ended", command+file)); got != errors {
				v.t.Errorf("errors %s: got %d, want %d; log:\n%s", when, got, errors, v.log)
			}
		}
		mustLog("at first", 0, 0)
		v.jumped.Store(int64(23*time.Hour + time.Minute))
		mustLog("an hour before the end", 1, 0)
		v.jumped.Store(int64(90 * time.Hour))
		mustLog("after the end", 1, 1)
		mustLog("later", 1, 1)
		for range 3 {
			call.end <- refusedWith(v.t, codes.Unauthenticated, registryv1.RefusedExpired, 0)
			_, call = v.next()
		}
		mustHold(v.t, v.mirror, 3, "a")
		problem := v.client.Status().Problem
		if problem == nil || !strings.Contains(problem.Remedy, command+file) {
			v.t.Errorf("problem: got %+v, want the remedy %s", problem, command)
		}
		shown := v.client.Status().Credentials
		if len(shown) != 1 || shown[0].Subject != "system:serviceaccount:prod:billing" || !shown[0].Expired(v.client.files.now()) {
			v.t.Errorf("credentials: got %+v, want the token, which has ended", shown)
		}
		if strings.Contains(v.log.String(), token) {
			v.t.Error("the log holds the token")
		}
	})
}

// TestCertificateIsRenewed goes over to a newer client certificate over real TLS.
func TestCertificateIsRenewed(t *testing.T) {
	ours := newAuthority(t, "ours")
	address, syncer := startTCP(t, ours.server(t, ours, tls.RequireAndVerifyClientCert))
	dir := t.TempDir()
	cert, key := ours.issue(t, dir, "vm-1")
	limits := quick
	limits.poll, limits.renewal = 5*time.Millisecond, 5*time.Millisecond
	r := startClient(t, Config{Addresses: []string{address}, TLS: TLSFiles{CertFile: cert, KeyFile: key, CAFile: ours.file(t, dir)}}, limits)
	call := syncer.next(t)
	call.sync(t, 3, service("a", 1))
	r.recorder.await(t, "heartbeat", 1)

	newCert, newKey := ours.issueFor(t, dir, "vm-2", 2*time.Hour)
	replaceFile(t, key, newKey)
	replaceFile(t, cert, newCert)
	again := syncer.next(t)
	call.gone(t)
	if got := clientName(t, again); got != "vm-2" {
		t.Errorf("the client is %q, want vm-2", got)
	}
	if got := again.hello.GetPosition().GetRevision(); got != 3 {
		t.Errorf("Hello has revision %d, want 3", got)
	}
	r.recorder.await(t, "disconnected "+address+" renewed", 1)
	shown := r.client.Status().Credentials
	if len(shown) != 1 || shown[0].Kind != CredentialCertificate || shown[0].Subject != "vm-2" || time.Until(shown[0].Expires) < 90*time.Minute {
		t.Errorf("credentials: got %+v, want vm-2's for two hours", shown)
	}
	if got := r.client.Status().Problem; got != nil {
		t.Errorf("problem: got %+v, want none", got)
	}
}

func TestRemedies(t *testing.T) {
	token := Credential{Kind: CredentialToken, File: "/etc/meshvm/token", Subject: "system:serviceaccount:prod:billing"}
	certificate := Credential{Kind: CredentialCertificate, File: "/etc/certs/cert-chain.pem", Subject: "spiffe://cluster.local/ns/prod/sa/billing"}
	const renewToken = "meshvmctl token --namespace prod --service-account billing --out /etc/meshvm/token"
	const renewCertificate = "the Istio agent renews /etc/certs; is it running?"
	tests := []struct {
		name        string
		cause       Cause
		reason      string
		text        string
		credentials []Credential
		want        string
	}{
		{"an expired token", CauseUnauthenticated, registryv1.RefusedExpired, "", []Credential{token}, renewToken},
		{"an expired certificate", CauseTLS, "", "remote error: tls: expired certificate", []Credential{certificate}, renewCertificate},
		{"an expired certificate beside a token", CauseUnauthenticated, registryv1.RefusedExpired, "", []Credential{certificate, token}, renewCertificate},
		{"an expired token beside a certificate without SPIFFE ID", CauseUnauthenticated, registryv1.RefusedExpired, "", []Credential{{Kind: CredentialCertificate, Subject: "vm"}, token}, renewToken},
		{"a token for somebody else", CauseUnauthenticated, registryv1.RefusedAudience, "", []Credential{token}, renewToken},
		{"a malformed token", CauseUnauthenticated, registryv1.RefusedMalformed, "", []Credential{{Kind: CredentialToken, File: "/t"}}, "meshvmctl token --namespace NAMESPACE --service-account SERVICE_ACCOUNT --out /t"},
		{"a revoked token", CauseUnauthenticated, registryv1.RefusedRevoked, "", []Credential{token}, "ServiceAccount prod/billing still exists"},
		{"a revoked certificate", CauseUnauthenticated, registryv1.RefusedRevoked, "", []Credential{certificate}, "trusts who issued /etc/certs/cert-chain.pem (--client-ca-file)"},
		{"an expired certificate that is no Istio agent's", CauseTLS, "", "remote error: tls: expired certificate", []Credential{{Kind: CredentialCertificate, File: "/etc/meshvm/vm.pem", Subject: certificate.Subject}}, "have /etc/meshvm/vm.pem renewed by whoever issued it"},
		{"an untrusted one", CauseUnauthenticated, registryv1.RefusedUntrusted, "", []Credential{token}, "the syncer's own cluster"},
		{"one of another mesh", CausePermissionDenied, registryv1.RefusedTrustDomain, "", []Credential{certificate}, certificate.Subject + " is of the syncer's mesh"},
		{"none", CauseUnauthenticated, registryv1.RefusedMissing, "", nil, "token FILE in the Corefile"},
		{"another namespace", CausePermissionDenied, registryv1.RefusedNamespace, "", []Credential{token}, "let namespace in the Corefile be prod"},
		{"not allowed", CausePermissionDenied, registryv1.RefusedForbidden, "", []Credential{token}, "grant the ServiceAccount prod/billing verb watch on registries of group meshvm.io in namespace prod"},
		{"a reason of a later version", CauseUnauthenticated, "", "", []Credential{token}, "see what the syncer says"},
		{"a token that cannot be read", CauseCredentials, "", "", nil, "--out /etc/meshvm/token"},
		{"a syncer of another authority", CauseTLS, "", "x509: certificate signed by unknown authority", nil, "/etc/meshvm/ca.pem holds the authority"},
		{"a syncer that wants a certificate", CauseTLS, "", "remote error: tls: certificate required", nil, "tls CERT KEY CA"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			failed := &failure{cause: test.cause, reason: test.reason, err: textError(test.text)}
			got := remedy(failed, test.credentials, Config{TokenFile: token.File, TLS: TLSFiles{CAFile: "/etc/meshvm/ca.pem"}})
			if !strings.Contains(got, test.want) {
				t.Errorf("remedy: got %q, want %q in it", got, test.want)
			}
		})
	}
}

type textError string

// Error implements error.
func (e textError) Error() string { return string(e) }
