package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestBootstrap(t *testing.T) {
	c := newCluster(t)
	out := filepath.Join(t.TempDir(), "new", "vm")
	code, stdout, stderr := c.bootstrap(out)
	if code != exitDone {
		t.Fatalf("exit %d, stderr %q; want 0", code, stderr)
	}
	files := contents(t, out)

	t.Run("the files, and who may read them", func(t *testing.T) {
		for path, want := range map[string]fs.FileMode{"": 0o755, "Corefile": 0o644, "ca.pem": 0o644, "token": 0o600} {
			info, err := os.Stat(filepath.Join(out, path))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != want {
				t.Errorf("Mode of %q: got %o, want %o", path, info.Mode().Perm(), want)
			}
		}
		if len(files) != 3 {
			t.Errorf("Files: got %d, want 3", len(files))
		}
	})
	t.Run("the token is the account's, for the audience meshvm", func(t *testing.T) {
		status := c.review(strings.TrimSpace(files["token"]))
		if want := "system:serviceaccount:" + c.namespace + ":vm"; !status.Authenticated || status.User.Username != want {
			t.Errorf("TokenReview: got %q (authenticated %t, %q), want %q", status.User.Username, status.Authenticated, status.Error, want)
		}
	})
	t.Run("the Corefile", func(t *testing.T) {
		for _, want := range []string{
			"\n        syncer 192.0.2.10:15054 lb.example.org:15054\n", "\n        tls /etc/meshvm/ca.pem\n", "\n        token /etc/meshvm/token\n",
			"\n        tls_servername meshvm-syncer." + c.system + ".svc\n", "\n        namespace " + c.namespace + "\n", "\n    bind 127.0.0.1\n",
		} {
			if strings.Count(files["Corefile"], want) != 1 {
				t.Errorf("Want %q once in\n%s", want, files["Corefile"])
			}
		}
	})
	t.Run("the authority", func(t *testing.T) {
		if want := read(t, c.pki.path("ca.crt")); files["ca.pem"] != want {
			t.Errorf("Got %q, want %q", files["ca.pem"], want)
		}
	})
	t.Run("what it says", func(t *testing.T) {
		for _, want := range []string{"Corefile", "good until 20", "cp -a vm/. /etc/meshvm", "meshvmctl join vm\n", "meshvmctl token --namespace " + c.namespace + " --service-account vm"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("Want %q in %q", want, stdout)
			}
		}
		want := fmt.Sprintf("kubectl create rolebinding meshvm-watcher-vm --clusterrole=meshvm-watcher --serviceaccount=%[1]s:vm --namespace=%[1]s\n", c.namespace)
		if !strings.Contains(stderr, "may not watch") || !strings.Contains(stderr, want) {
			t.Errorf("Want a warning with %q in %q", want, stderr)
		}
		withoutToken(t, files["token"], stdout, stderr)
	})
	t.Run("again: the token is new, the rest as it was", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(out, "resolv.conf"), []byte("nameserver 192.0.2.53\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := c.bootstrap(out); code != exitDone {
			t.Fatalf("exit %d, stderr %q; want 0", code, stderr)
		}
		again := contents(t, out)
		if again["token"] == files["token"] || !c.review(strings.TrimSpace(again["token"])).Authenticated {
			t.Error("Got the old token or none, want a new one")
		}
		if again["Corefile"] != files["Corefile"] || again["ca.pem"] != files["ca.pem"] || again["resolv.conf"] != "nameserver 192.0.2.53\n" {
			t.Errorf("Got %q, want the rest unchanged", again)
		}
	})
	t.Run("another into the same folder", func(t *testing.T) {
		c.createAccount("other")
		before := contents(t, out)
		code, _, stderr := c.bootstrap(out, "--service-account", "other")
		if code != exitRefused || !strings.Contains(stderr, "Corefile is there already and is another") || !strings.Contains(stderr, "--force") {
			t.Errorf("exit %d, stderr %q; want 1 and --force", code, stderr)
		}
		if after := contents(t, out); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("Got %q, want all as before", after)
		}
		if code, _, stderr := c.bootstrap(out, "--service-account", "other", "--force"); code != exitDone {
			t.Errorf("exit %d, stderr %q; want 0 with --force", code, stderr)
		}
		if got := c.review(strings.TrimSpace(read(t, filepath.Join(out, "token")))).User.Username; !strings.HasSuffix(got, ":other") {
			t.Errorf("Token: got that of %s, want that of other", got)
		}
	})
	t.Run("with Istio's certificates", func(t *testing.T) {
		code, stdout, stderr := c.bootstrap(out, "--service-account", "other", "--force", "--istio-certs")
		if code != exitDone || strings.Contains(stdout, "token") {
			t.Fatalf("exit %d, stdout %q, stderr %q; want 0 and no word of a token", code, stdout, stderr)
		}
		var names []string
		for name := range contents(t, out) {
			names = append(names, name)
		}
		slices.Sort(names)
		if want := []string{"Corefile", "resolv.conf"}; !slices.Equal(names, want) {
			t.Errorf("Files: got %q, want %q", names, want)
		}
		text := read(t, filepath.Join(out, "Corefile"))
		if !strings.Contains(text, "tls /etc/certs/cert-chain.pem /etc/certs/key.pem /etc/certs/root-cert.pem\n") || strings.Contains(text, "\n        token") {
			t.Errorf("Got\n%s\nwant Istio's certificates and no token", text)
		}
	})
}

func TestBootstrapWithFlags(t *testing.T) {
	c := newCluster(t)
	tests := map[string]struct {
		flags []string
		want  []string // in the Corefile, or in what is said
	}{
		"syncers":           {[]string{"--syncer", "syncer.example.org:15054", "--syncer", "[2001:db8::1]:443"}, []string{"syncer syncer.example.org:15054 [2001:db8::1]:443\n"}},
		"a server name":     {[]string{"--tls-server-name", "syncer.mesh"}, []string{"tls_servername syncer.mesh\n", "must name syncer.mesh"}},
		"a node":            {[]string{"--node", "vm-1"}, []string{"node vm-1\n"}},
		"a cluster domain":  {[]string{"--cluster-domain", "k8s.example.org"}, []string{"meshvm k8s.example.org {\n"}},
		"upstreams":         {[]string{"--upstream", "192.0.2.53,[2001:db8::53]:5353"}, []string{"forward . 192.0.2.53 [2001:db8::53]:5353 {\n"}},
		"another place":     {[]string{"--install-dir", "/opt/mesh"}, []string{"tls /opt/mesh/ca.pem\n", "token /opt/mesh/token\n", "forward . /run/meshvm-redirect/resolv.conf {\n", "/. /opt/mesh "}},
		"a file of the CA":  {[]string{"--ca-file", c.pki.path("ca.crt")}, []string{"tls /etc/meshvm/ca.pem\n"}},
		"the life shortest": {[]string{"--token-duration", "10m"}, []string{"(10m0s)"}},
		"Istio's certificates with another authority": {[]string{"--istio-certs", "--ca-configmap", c.system + "/meshvm-ca"}, []string{"tls /etc/certs/cert-chain.pem /etc/certs/key.pem /etc/meshvm/ca.pem\n"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "vm")
			code, stdout, stderr := c.bootstrap(out, test.flags...)
			if code != exitDone {
				t.Fatalf("exit %d, stderr %q; want 0", code, stderr)
			}
			said := read(t, filepath.Join(out, "Corefile")) + stdout
			for _, want := range test.want {
				if !strings.Contains(said, want) {
					t.Errorf("Want %q in\n%s", want, said)
				}
			}
			given := slices.Contains(test.flags, "--syncer")
			if got := strings.Contains(said, "tls_servername"); got == given {
				t.Errorf("Got a server name %t, want %t", got, !given)
			}
		})
	}
}
