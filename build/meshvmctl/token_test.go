package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/test/controlplane"
)

func TestTokenRenewed(t *testing.T) {
	c := newCluster(t)
	args := []string{"token", "--kubeconfig", c.plane.Kubeconfig(), "--namespace", c.namespace, "--service-account", "vm"}
	file := filepath.Join(t.TempDir(), "token")
	t.Run("to standard output", func(t *testing.T) {
		code, stdout, stderr := meshvmctl(t, args...)
		if code != exitDone || !c.review(strings.TrimSpace(stdout)).Authenticated || !strings.Contains(stderr, "good until 20") {
			t.Errorf("exit %d, stderr %q; want a token, and until when it is good", code, stderr)
		}
		withoutToken(t, stdout, stderr)
	})
	t.Run("into a new file", func(t *testing.T) {
		code, stdout, stderr := meshvmctl(t, append(args, "--out", file, "--duration", "1h")...)
		if code != exitDone || stdout != "" || !strings.Contains(stderr, "(1h0m0s)") {
			t.Errorf("exit %d, stdout %q, stderr %q; want 0 and an hour", code, stdout, stderr)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("Got mode %v, %v, want 0600", info.Mode(), err)
		}
		withoutToken(t, read(t, file), stderr)
	})
	t.Run("in place of one that a group may read", func(t *testing.T) {
		before := read(t, file)
		c.check(os.Chmod(file, 0o640))
		if code, _, stderr := meshvmctl(t, append(args, "--out", file)...); code != exitDone {
			t.Fatalf("exit %d, stderr %q; want 0", code, stderr)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
			t.Errorf("Got mode %v, %v, want 0640", info.Mode(), err)
		}
		if after := read(t, file); after == before || !c.review(strings.TrimSpace(after)).Authenticated {
			t.Error("Got the old token or none, want a new one")
		}
	})
	t.Run("and inspected", func(t *testing.T) {
		code, stdout, stderr := meshvmctl(t, "token", "inspect", file)
		for _, want := range []string{"account   " + c.namespace + "/vm\n", "issuer    https://kubernetes.default.svc\n", "audience  meshvm\n", "ends      20", ", in 2"} {
			if code != exitDone || !strings.Contains(stdout, want) {
				t.Errorf("exit %d, stdout %q, stderr %q; want %q", code, stdout, stderr, want)
			}
		}
		withoutToken(t, read(t, file), stdout, stderr)
		if code, _, _ := meshvmctl(t, "token", "inspect", file, "--within", "25h"); code != exitRefused {
			t.Errorf("exit %d, want 1 for one that ends within 25h", code)
		}
	})
	before := read(t, file)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no ServiceAccount":   {[]string{"--service-account", "absent"}, exitRefused, "kubectl create serviceaccount absent"},
		"no right":            {[]string{"--kubeconfig", c.kubeconfig(nobody)}, exitRefused, `cannot create resource "serviceaccounts/token"`},
		"a device":            {[]string{"--out", "/dev/null"}, exitRefused, "/dev/null is not a regular file"},
		"a folder":            {[]string{"--out", filepath.Dir(file)}, exitRefused, "not a regular file"},
		"no folder":           {[]string{"--out", "/no/such/folder/token"}, exitRefused, "/no/such/folder"},
		"a life that ends":    {[]string{"--duration", "1m"}, exitUsage, "--duration 1m0s: want 10m0s or more"},
		"nobody's token":      {[]string{"--namespace", ""}, exitUsage, "want --namespace"},
		"an impossible token": {[]string{"--namespace", "A"}, exitUsage, `namespace "A"`},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, append(append(args, "--out", file), test.args...)...)
			if code != test.code || stdout != "" || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d and %q", code, stdout, stderr, test.code, test.want)
			}
			if after := read(t, file); after != before {
				t.Error("Got another token, want the old one")
			}
		})
	}
}

// TestShorterLife has an API server that gives tokens an hour at most.
func TestShorterLife(t *testing.T) {
	short := controlplane.Start(t, controlplane.WithAPIServerFlags("--service-account-max-token-expiration=1h"))
	clients, err := kubernetes.NewForConfig(short.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	_, err = clients.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "vm"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	args := []string{"--kubeconfig", short.Kubeconfig(), "--namespace", "default", "--service-account", "vm"}
	code, _, stderr := meshvmctl(t, append([]string{"token", "--out", file}, args...)...)
	if code != exitDone || !strings.Contains(stderr, "given the token 1h0m0s, not 24h0m0s") {
		t.Errorf("exit %d, stderr %q; want to be told of the hour", code, stderr)
	}

	t.Run("API server gone", func(t *testing.T) {
		if err := short.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		before := read(t, file)
		code, stdout, stderr := meshvmctl(t, append([]string{"token", "--out", file}, args...)...)
		if code != exitUnreachable || stdout != "" || !strings.Contains(stderr, "connection refused") || read(t, file) != before {
			t.Errorf("exit %d, stdout %q, stderr %q; want 3, and the token as it was", code, stdout, stderr)
		}
		out := filepath.Join(t.TempDir(), "vm")
		code, stdout, stderr = meshvmctl(t, append([]string{"bootstrap", "--out", out}, args...)...)
		if _, err := os.Stat(out); code != exitUnreachable || stdout != "" || err == nil {
			t.Errorf("exit %d, stdout %q, stderr %q; want 3 and no folder", code, stdout, stderr)
		}
	})
}
