//go:build chart

package chart

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReaders: with http.authorization kubernetes metrics and the page's data are for those whom the chart's role is bound to, over TLS.
func TestReaders(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.install("helm", "{http: {authorization: kubernetes}}")
	syncer := c.schedule(t)
	syncer.start(t)
	syncer.ready(t)
	token, err := c.plane.ServiceAccountToken(t.Context(), objectsNamespace, "prometheus")
	if err != nil {
		t.Fatal(err)
	}
	code := func(path, token string) (int, string) {
		t.Helper()
		status, body, err := syncer.fetch(path, token)
		if err != nil {
			t.Fatal(err)
		}
		return status, body
	}
	for _, path := range []string{"/metrics", "/status/api/overview"} {
		if got, body := code(path, ""); got != http.StatusUnauthorized {
			t.Errorf("%s without a token: got %d %s, want 401", path, got, body)
		}
		if got, body := code(path, "made.up.token"); got != http.StatusUnauthorized {
			t.Errorf("%s with a token of nobody's: got %d %s, want 401", path, got, body)
		}
		if got, body := code(path, token); got != http.StatusForbidden || !strings.Contains(body, "kubectl create clusterrole") {
			t.Errorf("%s without the right: got %d %s, want 403 and what to do", path, got, body)
		}
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "readers", Labels: map[string]string{"app.kubernetes.io/part-of": "meshvm"}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: release + "-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: objectsNamespace, Name: "prometheus"}},
	}
	if _, err := c.clients.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for path, part := range map[string]string{"/metrics": "meshvm_syncer_ready 1", "/status/api/overview": `"ready":true`} {
		eventually(t, path+" with the right", func() error {
			if status, body, err := syncer.fetch(path, token); err != nil || status != http.StatusOK || !strings.Contains(body, part) {
				return fmt.Errorf("got %d, %w and %s", status, err, body)
			}
			return nil
		})
	}
}
