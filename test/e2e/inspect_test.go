package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meshvm/meshvm/test/programs"
)

// inspectedMesh has a name for each way that meshvmctl explain ends.
const inspectedMesh = `
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod}
spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: other}
spec: {clusterIPs: [10.96.0.2], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: private, namespace: other, annotations: {networking.istio.io/exportTo: "."}}
spec: {clusterIPs: [10.96.0.3], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: prod}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1], hostname: db-0}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: prod}
spec: {hosts: [api.example.com], addresses: [192.0.2.5], resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: rival, namespace: other}
spec: {hosts: [api.example.com], addresses: [192.0.2.6], resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}]}
`

// TestInspect has the operator look at a VM's CoreDNS that follows a syncer, and again once the syncer is gone.
func TestInspect(t *testing.T) {
	folder, dir := t.TempDir(), t.TempDir()
	write(t, folder, "mesh.yaml", inspectedMesh)
	syncer, address, _ := syncerOn(t, folder)
	upstream, listen := programs.Upstream(t), programs.FreeAddress(t)
	_, port, _ := strings.Cut(listen, ":")
	socket := filepath.Join(dir, "status.sock")
	programs.Serve(t, fmt.Sprintf(".:%s {\n bind 127.0.0.1\n meshvm cluster.local {\n  syncer %s\n  insecure\n  namespace prod\n  max_stale 1s\n  status %s\n  snapshot %s/registry.snapshot\n }\n forward . %s\n}\n", port, address, socket, dir, upstream))
	ask := func(t *testing.T, args ...string) (int, string) {
		t.Helper()
		process := programs.StartIn(t, dir, programs.Operator, append(args, "--socket", socket)...)
		code := process.Wait(t)
		return code, process.Output()
	}
	holds := func(t *testing.T, said string, want ...string) {
		t.Helper()
		for _, text := range want {
			if !strings.Contains(said, text) {
				t.Errorf("Said: got\n%s\nwant %q", said, text)
			}
		}
	}
	eventually(t, "CoreDNS is in step", func() error {
		if code, said := ask(t, "status"); code != 0 {
			return fmt.Errorf("exit code %d: %s", code, said)
		}
		return nil
	})

	t.Run("status", func(t *testing.T) {
		_, said := ask(t, "status")
		holds(t, said, address, "in step", "revision ", "namespace prod", "hosts", "redirect", upstream, "127.0.0.1:"+port)
		if strings.Contains(said, "\x1b") {
			t.Errorf("Said: got colours in a pipe: %q", said)
		}
		code, said := ask(t, "status", "-o", "json")
		var report struct {
			Healthy   bool     `json:"healthy"`
			Upstreams []string `json:"upstreams"`
		}
		if err := json.Unmarshal([]byte(said), &report); err != nil || !report.Healthy || code != 0 || len(report.Upstreams) != 1 {
			t.Errorf("JSON: got exit code %d, %+v, %v, want 0, healthy and an upstream", code, report, err)
		}
	})
	for _, test := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"a hit", []string{"reviews.prod.svc.cluster.local."}, 0, []string{"A: answered", "10.96.0.1", "+ Service prod/reviews"}},
		{"a host of two claims", []string{"api.example.com."}, 0, []string{"192.0.2.5", "+ ServiceEntry prod/api", "- ServiceEntry other/rival", "own namespace wins"}},
		{"an endpoint of a headless Service", []string{"db-0.db.prod.svc.cluster.local."}, 0, []string{"10.1.0.1", "headless"}},
		{"a name that is not exported", []string{"private.other.svc.cluster.local."}, 1, []string{"NXDOMAIN", "meshvmctl lookup private.other.svc.cluster.local"}},
		{"two letters swapped", []string{"reveiws.prod.svc.cluster.local."}, 1, []string{"NXDOMAIN", "like it", "reviews.prod.svc.cluster.local"}},
		{"another namespace's name", []string{"ratings.prod.svc.cluster.local."}, 1, []string{"is it ratings.other.svc.cluster.local?"}},
		{"another type", []string{"reviews.prod.svc.cluster.local.", "--type", "AAAA"}, 1, []string{"NODATA", "has no AAAA record"}},
		{"a name outside", []string{"www.example.org."}, 1, []string{"passed on", upstream}},
		{"no type", []string{"a.example.com.", "--type", "NOPE"}, 2, []string{`--type "NOPE"`}},
	} {
		t.Run("explain "+test.name, func(t *testing.T) {
			code, said := ask(t, append([]string{"explain"}, test.args...)...)
			if code != test.code {
				t.Errorf("Exit code: got %d, want %d", code, test.code)
			}
			holds(t, said, test.want...)
		})
	}
	t.Run("doctor", func(t *testing.T) {
		_, said := ask(t, "doctor")
		holds(t, said, "CoreDNS answers over UDP and TCP at [127.0.0.1:"+port+"]", "the syncer "+address+": reached")
	})
	t.Run("support-bundle", func(t *testing.T) {
		out := filepath.Join(dir, "bundle.tar.gz")
		// A name that somebody pastes may hold what is secret, too.
		const secret = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ2bSJ9.c2lnbmF0dXJl"
		if code, said := ask(t, "support-bundle", "--out", out, "--explain", "reviews.prod.svc.cluster.local.", "--explain", secret); code != 0 {
			t.Fatalf("Exit code: got %d, want 0:\n%s", code, said)
		}
		files := unpacked(t, out)
		for name, text := range files {
			if strings.Contains(strings.ToLower(text), strings.ToLower("c2lnbmF0dXJl")) {
				t.Errorf("%s: got the planted token:\n%s", name, text)
			}
		}
		holds(t, files["meshvm-support/explain-1.json"], `"outcome": "answered"`, "10.96.0.1")
		holds(t, files["meshvm-support/status.json"], `"healthy": true`)
		holds(t, files["meshvm-support/doctor.txt"], "CoreDNS answers over UDP and TCP at [127.0.0.1:"+port+"]")
	})
	t.Run("the syncer is gone", func(t *testing.T) {
		syncer.Stop(t, syscall.SIGKILL)
		eventually(t, "the registry is stale", func() error {
			code, said := ask(t, "status")
			if code != 1 || !strings.Contains(said, "last known to be current") {
				return fmt.Errorf("exit code %d: %s", code, said)
			}
			return nil
		})
		code, said := ask(t, "doctor")
		if code != 1 {
			t.Errorf("Exit code of doctor: got %d, want 1", code)
		}
		holds(t, said, "no syncer is followed", "the syncer "+address+": no connection")
		// What answers queries looks at its age from time to time.
		eventually(t, "an answer is explained as stale", func() error {
			if code, said := ask(t, "explain", "reviews.prod.svc.cluster.local."); code != 0 || !strings.Contains(said, "10.96.0.1") || !strings.Contains(said, "stale") {
				return fmt.Errorf("exit code %d: %s", code, said)
			}
			return nil
		})
	})
	t.Run("nobody answers", func(t *testing.T) {
		process := programs.StartIn(t, dir, programs.Operator, "status", "--socket", filepath.Join(dir, "none.sock"))
		if code := process.Wait(t); code != 2 {
			t.Errorf("Exit code of status: got %d, want 2", code)
		}
	})
}

// unpacked is the files of an archive.
func unpacked(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content)
	}
}
