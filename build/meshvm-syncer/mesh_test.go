package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/test/transcript"
)

func TestMeshConfigFlag(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want types.NamespacedName
	}{
		{"not given", nil, types.NamespacedName{}},
		{"alone", []string{"--istio-mesh-config"}, types.NamespacedName{Namespace: "istio-system", Name: "istio"}},
		{"alone, before another", []string{"--istio-mesh-config", "--vip", "status"}, types.NamespacedName{Namespace: "istio-system", Name: "istio"}},
		{"of a revision", []string{"--istio-mesh-config=istio-system/istio-1-31"}, types.NamespacedName{Namespace: "istio-system", Name: "istio-1-31"}},
		{"a name with dots", []string{"--istio-mesh-config=mesh/a.b"}, types.NamespacedName{Namespace: "mesh", Name: "a.b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse(append([]string{"--insecure"}, test.args...))
			if err != nil {
				t.Fatal(err)
			}
			if got.mesh != test.want {
				t.Errorf("ConfigMap: got %v, want %v", got.mesh, test.want)
			}
		})
	}
	for _, value := range []string{"", "istio", "istio-system/", "/istio", "a/b/c", "a.b/istio", "istio-system/Istio"} {
		t.Run("refused: "+value, func(t *testing.T) {
			want := `--istio-mesh-config "` + value + `": want NAMESPACE/NAME of a ConfigMap such as istio-system/istio`
			if _, err := parse([]string{"--insecure", "--istio-mesh-config=" + value}); err == nil || err.Error() != want {
				t.Errorf("parse: got %v, want %s", err, want)
			}
		})
	}
}

// TestTheMeshConfigurationIsFollowed by the whole command, with a folder of manifests.
func TestTheMeshConfigurationIsFollowed(t *testing.T) {
	folder := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    "
	write("bookinfo.yaml", manifests)
	write("mesh.yaml", mesh+"defaultServiceExportTo: ['.']\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr transcript.Transcript
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{
			"--manifests", folder, "--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
			"--log-format", "json", "--default-export", "*", "--istio-mesh-config",
		}, &stdout, &stderr)
	}()
	address := ""
	waitFor(t, "the log says where it serves", func() bool {
		address = logged(stderr.String(), "serving", "http")
		return address != ""
	})
	waitFor(t, "it is ready", func() bool { return get(address, "/readyz") == "ok\n" })
	answers := func(namespace string) bool {
		return strings.Contains(get(address, "/debug/registry?name=reviews.prod.svc.cluster.local&namespace="+namespace), `"value": "10.0.0.1"`)
	}
	if !answers("prod") || answers("dev") {
		t.Errorf("answered in prod: %t, in dev: %t; want in prod only, where the mesh configuration exports to", answers("prod"), answers("dev"))
	}
	if got := logged(stderr.String(), "following the mesh configuration", "configmap"); got != "istio-system/istio" {
		t.Errorf("ConfigMap in the log: got %q, want istio-system/istio", got)
	}
	write("mesh.yaml", mesh+"rootNamespace: istio-system\n")
	waitFor(t, "the flag decides where the mesh configuration does not", func() bool { return answers("dev") })
	write("mesh.yaml", mesh+"defaultServiceExportTo: ['.', '!']\n")
	waitFor(t, "the metric says that it is broken", func() bool {
		return strings.Contains(get(address, "/metrics"), `meshvm_syncer_mesh_config{state="broken"} 1`)
	})
	if !answers("dev") {
		t.Error("a broken mesh configuration has changed something")
	}
	cancel()
	select {
	case code := <-ended:
		if code != exitDone {
			t.Errorf("exit %d, want 0\n%s", code, stderr.String())
		}
	case <-time.After(patience):
		t.Fatalf("still running %s after the stop\n%s", patience, stderr.String())
	}
}
