package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestBootstrapGrants(t *testing.T) {
	c := newCluster(t)
	out := filepath.Join(t.TempDir(), "vm")
	t.Run("a role that is not there", func(t *testing.T) {
		code, stdout, stderr := c.bootstrap(filepath.Join(t.TempDir(), "vm"), "--grant")
		if code != exitDone || !strings.Contains(stdout, "may not watch yet") || !strings.Contains(stderr, "the grant has no effect: is ClusterRole meshvm-watcher there?") {
			t.Errorf("exit %d, stdout %q, stderr %q; want a warning that the role is not there", code, stdout, stderr)
		}
		_, err := c.clients.RbacV1().RoleBindings(c.namespace).Get(t.Context(), "meshvm-watcher-vm", metav1.GetOptions{})
		c.check(err)
		c.check(c.clients.RbacV1().RoleBindings(c.namespace).Delete(t.Context(), "meshvm-watcher-vm", metav1.DeleteOptions{}))
	})
	c.createRole()
	code, stdout, stderr := c.bootstrap(out, "--service-account", "fresh", "--create-service-account", "--grant")
	if code != exitDone || !strings.Contains(stdout, "fresh, may watch") || !strings.Contains(stderr, "created ServiceAccount") || !strings.Contains(stderr, "granted") {
		t.Fatalf("exit %d, stdout %q, stderr %q; want all of it done", code, stdout, stderr)
	}
	t.Run("again, there is nothing to do", func(t *testing.T) {
		code, stdout, stderr := c.bootstrap(out, "--service-account", "fresh", "--create-service-account", "--grant")
		if code != exitDone || stderr != "" || !strings.Contains(stdout, "may watch") {
			t.Errorf("exit %d, stderr %q; want 0 and silence", code, stderr)
		}
	})
	t.Run("later runs find out", func(t *testing.T) {
		if code, stdout, stderr := c.bootstrap(out, "--service-account", "fresh"); code != exitDone || stderr != "" || !strings.Contains(stdout, "may watch") {
			t.Errorf("exit %d, stderr %q; want 0 and silence", code, stderr)
		}
	})
	t.Run("a binding of that name for somebody else", func(t *testing.T) {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "meshvm-watcher-vm"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		}
		_, err := c.clients.RbacV1().RoleBindings(c.namespace).Create(t.Context(), binding, metav1.CreateOptions{})
		c.check(err)
		elsewhere := filepath.Join(t.TempDir(), "vm")
		code, _, stderr := c.bootstrap(elsewhere, "--grant")
		if code != exitRefused || !strings.Contains(stderr, c.namespace+"/meshvm-watcher-vm is there and says something else") {
			t.Errorf("exit %d, stderr %q; want 1", code, stderr)
		}
		if _, err := os.Stat(elsewhere); err == nil {
			t.Error("Got a bundle, want none")
		}
	})
}

// TestBootstrapWithFewRights runs it as who may request tokens in one namespace, and nothing else.
func TestBootstrapWithFewRights(t *testing.T) {
	c := newCluster(t)
	_, err := c.clients.RbacV1().Roles(c.namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "granter"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, Verbs: []string{"create"}}},
	}, metav1.CreateOptions{})
	c.check(err)
	_, err = c.clients.RbacV1().RoleBindings(c.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "granter"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "granter"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: granter}},
	}, metav1.CreateOptions{})
	c.check(err)
	flags := []string{"--kubeconfig", c.kubeconfig(granter), "--syncer", "192.0.2.1:15054", "--ca-file", c.pki.path("ca.crt")}
	out := filepath.Join(t.TempDir(), "vm")
	var code int
	var stdout, stderr string
	for deadline := time.Now().Add(30 * time.Second); ; { // until the API server has heard of the binding
		if code, stdout, stderr = c.bootstrap(out, flags...); code == exitDone || time.Now().After(deadline) {
			break
		}
	}
	if code != exitDone || !strings.Contains(stdout, "not known to watch") {
		t.Errorf("exit %d, stdout %q; want 0, and that it does not know", code, stdout)
	}
	for _, want := range []string{`cannot create resource "localsubjectaccessreviews"`, "kubectl create rolebinding meshvm-watcher-vm"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("Got %q, want it to say %q", stderr, want)
		}
	}
	t.Run("but not to grant", func(t *testing.T) {
		code, _, stderr := c.bootstrap(out, append(flags, "--grant")...)
		if code != exitRefused || !strings.Contains(stderr, `cannot create resource "rolebindings"`) {
			t.Errorf("exit %d, stderr %q; want 1", code, stderr)
		}
	})
}
