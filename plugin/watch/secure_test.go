package watch

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a client over TCP on loopback, and what it tells.
type running struct {
	client   *Client
	recorder *recorder
	log      *logBook
}

// quick has retries come fast, and everything else as it is.
var quick = func() limits {
	l := defaultLimits
	l.retryBase, l.retryCap = time.Millisecond, 10*time.Millisecond
	l.refusalBase, l.refusalCap = time.Millisecond, 10*time.Millisecond
	return l
}()

// startClient runs a client until the test ends.
func startClient(t *testing.T, config Config, limits limits) *running {
	t.Helper()
	r := &running{recorder: newRecorder(), log: &logBook{}}
	client, err := newClient(config, newMirror(), r.log.logger(), r.recorder, limits)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	r.client = client
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := receiveFrom(t, ended, "end of Run"); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want %v", err, context.Canceled)
		}
	})
	return r
}

// startTCP is a syncer over TCP on loopback; a nil configuration is plaintext.
func startTCP(t *testing.T, config *tls.Config) (address string, s *scriptedSyncer) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	return listener.Addr().String(), startSyncer(t, listener, options...)
}

// clientName is the name in the certificate that a client showed, empty when it showed none.
func clientName(t *testing.T, c *call) string {
	t.Helper()
	from, ok := peer.FromContext(c.stream.Context())
	if !ok {
		t.Fatal("no peer")
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok {
		t.Fatalf("the connection is %T, not TLS", from.AuthInfo)
	}
	if shown := info.State.PeerCertificates; len(shown) > 0 {
		return shown[0].Subject.CommonName
	}
	return ""
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	a := service("a", 1)

	t.Run("both sides show certificates", func(t *testing.T) {
		address, syncer := startTCP(t, ours.server(t, ours, tls.RequireAndVerifyClientCert))
		dir := t.TempDir()
		cert, key := ours.issue(t, dir, "vm-1")
		r := startClient(t, Config{Addresses: []string{address}, TLS: TLSFiles{CertFile: cert, KeyFile: key, CAFile: ours.file(t, dir)}, Version: "1.2"}, quick)
		call := syncer.next(t)
		if got := clientName(t, call); got != "vm-1" {
			t.Errorf("the client is %q, want vm-1", got)
		}
		if got := call.metadata.Get("user-agent"); len(got) != 1 || !strings.HasPrefix(got[0], "meshvm/1.2 ") {
			t.Errorf("user agent is %q, want meshvm/1.2", got)
		}
		call.sync(t, 3, a)
		r.recorder.await(t, "heartbeat", 1)
		mustHold(t, r.client.mirror, 3, "a")
	})

	t.Run("an authority alone is enough where a token is taken", func(t *testing.T) {
		address, syncer := startTCP(t, ours.server(t, ours, tls.VerifyClientCertIfGiven))
		dir := t.TempDir()
		startClient(t, Config{
			Addresses: []string{address}, TLS: TLSFiles{CAFile: ours.file(t, dir)},
			TokenFile: writeFile(t, filepath.Join(dir, "token"), "secret-1\n"),
		}, quick)
		call := syncer.next(t)
		if got := clientName(t, call); got != "" {
			t.Errorf("the client shows a certificate for %q, want none", got)
		}
		if got := call.metadata.Get("authorization"); len(got) != 1 || got[0] != "Bearer secret-1" {
			t.Errorf("authorization is %q, want Bearer secret-1", got)
		}
	})

	t.Run("a server name stands in for the address", func(t *testing.T) {
		address, syncer := startTCP(t, ours.server(t, ours, tls.NoClientCert))
		startClient(t, Config{
			Addresses: []string{address}, TLS: TLSFiles{CAFile: ours.file(t, t.TempDir())}, ServerName: "syncer.example.com",
		}, quick)
		syncer.next(t)
	})

	faults := []struct {
		name   string
		server *tls.Config
		config func(dir string) Config
		want   []string
	}{
		{"a server of another authority", theirs.server(t, ours, tls.NoClientCert), func(dir string) Config {
			return Config{TLS: TLSFiles{CAFile: ours.file(t, dir)}}
		}, []string{"certificate signed by unknown authority"}},
		{"a server of another name", ours.server(t, ours, tls.NoClientCert), func(dir string) Config {
			return Config{TLS: TLSFiles{CAFile: ours.file(t, dir)}, ServerName: "other.example.com"}
		}, []string{"other.example.com", "syncer.example.com"}},
		{"a server that wants a certificate", ours.server(t, ours, tls.RequireAndVerifyClientCert), func(dir string) Config {
			return Config{TLS: TLSFiles{CAFile: ours.file(t, dir)}}
		}, []string{"certificate required"}},
		{"a server that does not know our authority", ours.server(t, theirs, tls.RequireAndVerifyClientCert), func(dir string) Config {
			cert, key := ours.issue(t, dir, "vm-1")
			return Config{TLS: TLSFiles{CertFile: cert, KeyFile: key, CAFile: ours.file(t, dir)}}
		}, []string{"tls: unknown certificate authority"}},
		{"a server in plaintext", nil, func(dir string) Config {
			return Config{TLS: TLSFiles{CAFile: ours.file(t, dir)}}
		}, []string{"first record does not look like a TLS handshake"}},
		{"a server of TLS 1.1", &tls.Config{
			Certificates: ours.server(t, ours, tls.NoClientCert).Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		}, func(dir string) Config {
			return Config{TLS: TLSFiles{CAFile: ours.file(t, dir)}}
		}, []string{"protocol version"}},
	}
	for _, fault := range faults {
		t.Run(fault.name+" is named in status and log", func(t *testing.T) {
			address, _ := startTCP(t, fault.server)
			config := fault.config(t.TempDir())
			config.Addresses = []string{address}
			r := startClient(t, config, quick)
			r.recorder.await(t, "connect failed "+address+" tls", 2)
			for _, want := range append(fault.want, address) {
				if got := r.client.Status().LastError; !strings.Contains(got, want) {
					t.Errorf("status is %q, want %q in it", got, want)
				}
				if len(r.log.lines("level=WARN", want)) != 1 {
					t.Errorf("no single warning with %q; log:\n%s", want, r.log)
				}
			}
		})
	}
}

// TestCutHandshake: a syncer that dies while a VM greets it has refused nobody. Were it taken for a refusal, a VM would stay away for
// minutes, and its operator would look for a wrong certificate.
func TestCutHandshake(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn) error{
		"closed": (*net.TCPConn).Close,
		"reset":  func(conn *net.TCPConn) error { return errors.Join(conn.SetLinger(0), conn.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var running sync.WaitGroup
			t.Cleanup(func() {
				if err := listener.Close(); err != nil {
					t.Error(err)
				}
				running.Wait()
			})
			running.Go(func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					if _, err := conn.Read(make([]byte, 16)); err != nil {
						t.Errorf("Read the greeting: %v", err)
					}
					if err := end(conn.(*net.TCPConn)); err != nil {
						t.Errorf("End the connection: %v", err)
					}
				}
			})
			address := listener.Addr().String()
			r := startClient(t, Config{Addresses: []string{address}, TLS: TLSFiles{CAFile: newAuthority(t, "ours").file(t, t.TempDir())}}, quick)
			r.recorder.await(t, "connect failed "+address+" unavailable", 2)
			if got := r.client.Status().Problem; got == nil || !strings.HasPrefix(got.Remedy, "see that the syncer runs") {
				t.Errorf("Problem: got %+v, want a remedy that begins with: see that the syncer runs", got)
			}
		})
	}
}

func TestTLSFilesRotate(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")

	t.Run("client certificate", func(t *testing.T) {
		address, syncer := startTCP(t, ours.server(t, ours, tls.RequireAndVerifyClientCert))
		dir := t.TempDir()
		cert, key := ours.issue(t, dir, "vm-1")
		r := startClient(t, Config{Addresses: []string{address}, TLS: TLSFiles{CertFile: cert, KeyFile: key, CAFile: ours.file(t, dir)}}, quick)
		call := syncer.next(t)

		// A rotation caught halfway: the new certificate with the old key.
		newCert, newKey := ours.issue(t, dir, "vm-2")
		replaceFile(t, cert, newCert)
		call.end <- errShutdown
		call = syncer.next(t)
		if got := clientName(t, call); got != "vm-1" {
			t.Errorf("halfway through the client is %q, want vm-1", got)
		}
		if len(r.log.lines("level=ERROR", cert, "last good")) != 1 {
			t.Errorf("no single error that names %s; log:\n%s", cert, r.log)
		}

		replaceFile(t, key, newKey)
		call.end <- errShutdown
		call = syncer.next(t)
		if got := clientName(t, call); got != "vm-2" {
			t.Errorf("after the rotation the client is %q, want vm-2", got)
		}
		if len(r.log.lines("TLS files reloaded")) != 1 {
			t.Errorf("no word of the reload; log:\n%s", r.log)
		}
	})

	t.Run("authority", func(t *testing.T) {
		var mu sync.Mutex
		serving := ours.server(t, ours, tls.NoClientCert)
		address, syncer := startTCP(t, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			config := serving.Clone()
			config.NextProtos = []string{"h2"}
			return config, nil
		}})
		ca := ours.file(t, t.TempDir())
		r := startClient(t, Config{Addresses: []string{address}, TLS: TLSFiles{CAFile: ca}}, quick)
		call := syncer.next(t)

		mu.Lock()
		serving = theirs.server(t, ours, tls.NoClientCert)
		mu.Unlock()
		call.end <- errShutdown
		r.recorder.await(t, "connect failed "+address+" tls", 1)
		writeFile(t, ca, ours.pem()+theirs.pem())
		call = syncer.next(t)

		// A file that is gone is no reason to trust others, nor to trust none.
		if err := os.Remove(ca); err != nil {
			t.Fatal(err)
		}
		call.end <- errShutdown
		syncer.next(t)
		if len(r.log.lines("level=ERROR", ca, "no such file")) != 1 {
			t.Errorf("no single error that names %s; log:\n%s", ca, r.log)
		}
	})
}

func replaceFile(t *testing.T, path, by string) {
	t.Helper()
	writeFile(t, path+".new", readString(t, by))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestToken(t *testing.T) {
	t.Run("is read again for every connection", func(t *testing.T) {
		address, syncer := startTCP(t, nil)
		file := writeFile(t, filepath.Join(t.TempDir(), "token"), "secret-1")
		r := startClient(t, Config{Addresses: []string{address}, Insecure: true, TokenFile: file}, quick)
		for _, want := range []string{"secret-1", "secret-2"} {
			call := syncer.next(t)
			if got := call.metadata.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+want {
				t.Errorf("authorization is %q, want Bearer %s", got, want)
			}
			writeFile(t, file, "secret-2")
			call.end <- status.Error(codes.Unauthenticated, "token expired")
		}
		r.recorder.await(t, "connect failed "+address+" unauthenticated", 2)
		if strings.Contains(r.log.String(), "secret") {
			t.Errorf("the log holds the token:\n%s", r.log)
		}
	})

	t.Run("that cannot be read is told and tried again", func(t *testing.T) {
		address, syncer := startTCP(t, nil)
		file := filepath.Join(t.TempDir(), "token")
		r := startClient(t, Config{Addresses: []string{address}, Insecure: true, TokenFile: file}, quick)
		r.recorder.await(t, "connect failed "+address+" credentials", 2)
		if got := r.client.Status().LastError; !strings.Contains(got, file) || !strings.Contains(got, "no such file") {
			t.Errorf("status is %q, want that there is no file %s", got, file)
		}
		writeFile(t, file, "secret")
		syncer.next(t)
	})

	contents := []struct {
		name, content, want, fault string
	}{
		{"plain", "abc.def-ghi_jkl~+/=", "abc.def-ghi_jkl~+/=", ""},
		{"with a line end", "abc\r\n", "abc", ""},
		{"empty", "", "", "is empty"},
		{"of blanks", " \n\t\n", "", "is empty"},
		{"of two lines", "secret\nsecret", "", "byte 7 is not printable ASCII"},
		{"with a header in it", "secret\r\nx-admin: 1", "", "byte 7"},
		{"of binary", "secret\x00", "", "byte 7"},
		{"as long as may be", strings.Repeat("x", maxTokenBytes), strings.Repeat("x", maxTokenBytes), ""},
		{"too long", strings.Repeat("x", maxTokenBytes+1), "", "larger than"},
	}
	for _, test := range contents {
		t.Run("file "+test.name, func(t *testing.T) {
			file := writeFile(t, filepath.Join(t.TempDir(), "token"), test.content)
			got, err := readToken(file, false)
			if got.value != test.want {
				t.Errorf("token is %q, want %q", got.value, test.want)
			}
			if test.fault == "" {
				if err != nil {
					t.Errorf("readToken: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.fault) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error is %v, want %q and the file's name, and not the token", err, test.fault)
			}
		})
	}

	t.Run("needs TLS unless all is on loopback", func(t *testing.T) {
		if !(token{value: "x"}).RequireTransportSecurity() {
			t.Error("a token may travel in plaintext")
		}
	})
}

func TestOverTCP(t *testing.T) {
	a := service("a", 1)

	t.Run("a message over the limit is not taken in", func(t *testing.T) {
		address, syncer := startTCP(t, nil)
		small := quick
		small.message = 4 << 10
		r := startClient(t, Config{Addresses: []string{address}, Insecure: true}, small)
		call := syncer.next(t)
		call.sync(t, 3, a)
		huge := service("b", 2)
		huge.Body = make([]byte, 8<<10)
		call.send(t, step(3, huge))
		r.recorder.await(t, "disconnected "+address+" resource_exhausted", 1)
		mustHold(t, r.client.mirror, 3, "a")
		if got := r.client.Status().LastError; !strings.Contains(got, "larger than max") {
			t.Errorf("status is %q, want that a message was larger than the limit", got)
		}
	})

	t.Run("a delta over the limit is not held", func(t *testing.T) {
		address, syncer := startTCP(t, nil)
		small := quick
		small.staged = 2 << 10
		r := startClient(t, Config{Addresses: []string{address}, Insecure: true}, small)
		call := syncer.next(t)
		call.sync(t, 3, a)
		call.sendEndlessDelta(t, 3)
		r.recorder.await(t, "refused size", 1)
		mustHold(t, r.client.mirror, 3, "a")
	})

	t.Run("nobody listens", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		listener.Close()
		r := startClient(t, Config{Addresses: []string{address}, Insecure: true}, quick)
		r.recorder.await(t, "connect failed "+address+" unavailable", 3)
		if got := r.client.Status().LastError; !strings.Contains(got, "connection refused") {
			t.Errorf("status is %q, want connection refused", got)
		}
		if got := r.log.lines("level=WARN", address, "connection refused"); len(got) != 1 {
			t.Errorf("%d warnings, want 1; log:\n%s", len(got), r.log)
		}
	})

	t.Run("a server that dies is called again when it is back", func(t *testing.T) {
		address, syncer := startTCP(t, nil)
		r := startClient(t, Config{Addresses: []string{address}, Insecure: true}, quick)
		syncer.next(t).sync(t, 3, a)
		r.recorder.await(t, "heartbeat", 1)
		syncer.stop()
		r.recorder.await(t, "connect failed "+address+" unavailable", 1)
		mustHold(t, r.client.mirror, 3, "a")
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := startSyncer(t, listener).next(t).hello.GetPosition().GetRevision(); got != 3 {
			t.Errorf("Hello has revision %d, want 3", got)
		}
	})
}
