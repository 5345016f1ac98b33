package meshvm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/meshvm/meshvm/plugin/status"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/test/programs"
)

// refusingSyncer lets nobody in.
type refusingSyncer struct {
	registryv1.UnimplementedRegistryServer
}

// Watch implements the service.
func (refusingSyncer) Watch(grpc.BidiStreamingServer[registryv1.WatchRequest, registryv1.WatchResponse]) error {
	said, err := grpcstatus.New(codes.Unauthenticated, "the token has expired").WithDetails(
		&errdetails.ErrorInfo{Domain: registryv1.ErrorDomain, Reason: registryv1.RefusedExpired})
	if err != nil {
		return err
	}
	return said.Err()
}

// startRefusing is the address of a syncer that lets nobody in.
func startRefusing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, served := grpc.NewServer(), make(chan error, 1)
	registryv1.RegisterRegistryServer(server, refusingSyncer{})
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return listener.Addr().String()
}

// checkServed checks what somebody who redirects names to this process has to know.
func checkServed(t *testing.T, socket, address string) {
	t.Helper()
	report, err := status.Ask(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(report.Servers), fmt.Sprint([]status.Listener{{Address: address}}); got != want {
		t.Errorf("Servers: got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(report.Mirrors[0].Zones), "[cluster.local]"; got != want {
		t.Errorf("Zones: got %s, want %s", got, want)
	}
	if hosts, err := status.Hosts(t.Context(), socket); err != nil || len(hosts) != 0 {
		t.Errorf("Hosts of an empty registry: got %q and %v, want none", hosts, err)
	}
	explanation, err := status.Explain(t.Context(), socket, status.Question{Name: "reviews.prod.svc.cluster.local"})
	if err != nil || explanation.Outcome != "servfail" || !slices.Equal(explanation.Plugins, []string{pluginName}) || !strings.Contains(explanation.Reason, "no registry") {
		t.Errorf("Explanation: got %+v and %v, want SERVFAIL by %s since there is no registry", explanation, err, pluginName)
	}
	var refusal *status.Refusal
	if _, err := status.Explain(t.Context(), socket, status.Question{Name: "a..b"}); !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "no domain name") {
		t.Errorf("Explanation of a..b: got %v, want that it is no name", err)
	}
}

// TestStatusOverReloads runs CoreDNS with a token that has ended, and asks its socket, over reloads that succeed and that fail.
func TestStatusOverReloads(t *testing.T) {
	before := dnsserver.Directives
	t.Cleanup(func() { dnsserver.Directives = before })
	if err := dnsserver.SetDirectives([]string{"bind", pluginName}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	socket, other := filepath.Join(dir, "status.sock"), filepath.Join(dir, "other.sock")
	token := writeToken(t, dir, time.Now().Add(-time.Hour))
	syncer := startRefusing(t)
	_, port, err := net.SplitHostPort(programs.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	corefile := func(socket, more string) caddy.CaddyfileInput {
		text := fmt.Sprintf(".:%s {\n bind 127.0.0.1\n meshvm {\n  syncer %s\n  insecure\n  token %s\n  namespace prod\n  snapshot off\n  status %s\n }\n}\n%s", port, syncer, token, socket, more)
		return caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(text), ServerTypeName: "dns"}
	}
	instance, err := caddy.Start(corefile(socket, ""))
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		for _, err := range instance.ShutdownCallbacks() {
			t.Errorf("Shutdown: %v", err)
		}
		if err := instance.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	t.Cleanup(stop)

	since := checkRefused(t, socket, syncer, token)
	checkServed(t, socket, "127.0.0.1:"+port)

	if instance, err = instance.Restart(corefile(socket, "")); err != nil {
		t.Fatalf("Reload: %v", err)
	}
	if again := checkRefused(t, socket, syncer, token); !again.Equal(since) {
		t.Errorf("Problem since: got %v after a reload, want %v: the same stream", again, since)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, takenPort, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	survivor, err := instance.Restart(corefile(other, fmt.Sprintf("other.example:%s {\n bind 127.0.0.1\n}\n", takenPort)))
	if err == nil {
		instance = survivor
		t.Fatal("A reload onto a port that is taken succeeds")
	}
	if !strings.Contains(err.Error(), takenPort) {
		t.Fatalf("Reload: got %v, want that port %s is taken", err, takenPort)
	}
	checkRefused(t, socket, syncer, token)
	if _, err := os.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Socket of a reload that failed: got %v, want none", err)
	}

	if instance, err = instance.Restart(corefile(other, "")); err != nil {
		t.Fatalf("Reload with another socket: %v", err)
	}
	checkRefused(t, other, syncer, token)
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Socket that the Corefile has no more: got %v, want none", err)
	}
	stop()
	if _, err := os.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Socket after the end: got %v, want none", err)
	}
}

// checkRefused waits until the status tells of the syncer's refusal, checks the rest of it, and returns since when.
func checkRefused(t *testing.T, socket, syncer, token string) time.Time {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		report, err := status.Ask(t.Context(), socket)
		if err != nil {
			t.Fatalf("Ask: %v", err)
		}
		if len(report.Mirrors) != 1 {
			t.Fatalf("Mirrors: got %d, want 1", len(report.Mirrors))
		}
		m := report.Mirrors[0]
		if m.Problem == nil {
			if time.Now().After(deadline) {
				t.Fatalf("Problem: got none, want the refusal; report %+v", m)
			}
			<-ticker.C
			continue
		}
		want := "meshvmctl token --namespace prod --service-account billing --out " + token
		if m.Problem.Reason != registryv1.RefusedExpired || m.Problem.Address != syncer || !strings.Contains(m.Problem.Message, "the token has expired") || !strings.Contains(m.Problem.Remedy, want) {
			t.Errorf("Problem: got %+v, want the syncer's words and to do %q", m.Problem, want)
		}
		if len(m.Credentials) != 1 || m.Credentials[0].File != token || m.Credentials[0].Subject != "system:serviceaccount:prod:billing" || m.Credentials[0].Expires.After(time.Now()) {
			t.Errorf("Credentials: got %+v, want the token, which has ended", m.Credentials)
		}
		if got := m.Faults(report.At); len(got) != 3 {
			t.Errorf("Faults: got %q, want no syncer, no registry, and the token", got)
		}
		checkNoSecret(t, socket, token)
		return m.Problem.Since
	}
}

// checkNoSecret holds that no part of a token is in what the socket says.
func checkNoSecret(t *testing.T, socket, token string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://vm/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(conn); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(string(secret), ".") {
		if strings.Contains(string(said), part) {
			t.Errorf("Status: got %s, want nothing of the token in it", said)
		}
	}
}

func TestNoStatusSocket(t *testing.T) {
	for name, path := range map[string]string{"no folder": "none/status.sock", "a file": "file"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "file", "precious")
			p, by := newFollowers(), new(run)
			config := following(t, "vm")
			config.StatusSocket = filepath.Join(dir, path)
			claim(t, p, config, by)
			claim(t, p, config, by)
			p.release(config, by)
			p.release(config, by)
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "precious" {
				t.Errorf("File: got %q, %v, want it as it was", got, err)
			}
		})
	}
}
