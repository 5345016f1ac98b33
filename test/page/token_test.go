//go:build browser

package page

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// TestPageWithAToken: where the cluster decides who sees data, the page asks for a token, says what is wrong with one that is not good enough, and is
// live with one that is.
func TestPageWithAToken(t *testing.T) {
	plane := controlplane.Start(t)
	namespace := plane.Namespace(t)
	grant(t, plane, namespace)
	tokens := map[string]string{}
	for _, account := range []string{"viewer", "stranger"} {
		var err error
		if tokens[account], err = plane.ServiceAccountToken(t.Context(), namespace, account); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(t.TempDir(), "meshvm-syncer")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../build/meshvm-syncer").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	credentials, folder, http := programs.Credentials(t), t.TempDir(), free(t)
	write(t, folder, "reviews", "10.0.0.1")
	command := exec.CommandContext(t.Context(), binary, "--manifests", folder, "--kubeconfig", plane.Kubeconfig(), "--http-authorization", "kubernetes",
		"--listen", free(t), "--http-listen", http, "--client-ca-file", filepath.Join(credentials, "ca.pem"),
		"--tls-cert-file", filepath.Join(credentials, "cert.pem"), "--tls-private-key-file", filepath.Join(credentials, "key.pem"))
	command.Stderr = t.Output()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })

	// The test's certificate is nobody's; who may see data is what is looked at.
	s := &seen{}
	ctx := startBrowser(t, "https://"+http, s, chromedp.Flag("ignore-certificate-errors", true))
	until := func(expression string) chromedp.Action {
		return chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(20*time.Second), chromedp.WithPollingInterval(100*time.Millisecond))
	}
	give := func(token string) chromedp.Action {
		return chromedp.ActionFunc(func(ctx context.Context) error {
			return chromedp.Run(ctx, chromedp.SetValue("#tokentext", token, chromedp.ByQuery), chromedp.Click("#token button", chromedp.ByQuery))
		})
	}
	for _, step := range []struct {
		what    string
		actions []chromedp.Action
	}{
		{"it asks for a token", []chromedp.Action{chromedp.Navigate("https://" + http + "/status"), until(`!document.getElementById('token').hidden`)}},
		{"a token of nobody's", []chromedp.Action{give("a.b.c"), until(`document.getElementById('trouble').textContent.includes('kubectl create token')`)}},
		{"a token that may not", []chromedp.Action{give(tokens["stranger"]), until(`document.getElementById('trouble').textContent.includes('--serviceaccount=` + namespace + `:stranger')`)}},
	} {
		if err := chromedp.Run(ctx, step.actions...); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
	}
	// A page that is loaded anew has forgotten the token.
	if err := chromedp.Run(ctx, chromedp.Reload(), until(`!document.getElementById('token').hidden`), give(tokens["viewer"]),
		until(`document.getElementById('live').textContent==='live' && document.getElementById('figures').textContent.includes('Resources')`)); err != nil {
		t.Fatalf("a token that may: %v", err)
	}
	var stored bool
	if err := chromedp.Run(ctx, chromedp.Evaluate(`localStorage.length + sessionStorage.length + document.cookie.length + document.getElementById('tokentext').value.length > 0`, &stored)); err != nil {
		t.Fatal(err)
	}
	if stored {
		t.Error("The page has stored something")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) > 0 {
		t.Errorf("The browser saw %q", s.problems)
	}
}

// grant lets ServiceAccount viewer see the page's data.
func grant(t *testing.T, plane *controlplane.ControlPlane, namespace string) {
	t.Helper()
	admin, err := kubernetes.NewForConfig(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/status"}}}}
	if _, err := admin.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: namespace, APIGroup: rbacv1.GroupName},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "viewer"}},
	}
	if _, err := admin.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
