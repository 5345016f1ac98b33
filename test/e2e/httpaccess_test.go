package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// TestHTTPAuthorization has the real API server decide who sees metrics and the status page.
func TestHTTPAuthorization(t *testing.T) {
	plane := controlplane.Start(t)
	namespace := plane.Namespace(t)
	admin, err := kubernetes.NewForConfig(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: namespace + "-status"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/status", "/metrics"}}}}
	if _, err := admin.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "viewer"}},
	}
	if _, err := admin.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{"": "", "forged": "a.b.c"}
	for _, account := range []string{"viewer", "stranger"} {
		if tokens[account], err = plane.ServiceAccountToken(t.Context(), namespace, account); err != nil {
			t.Fatal(err)
		}
	}
	mesh := newAuthority(t)
	// As the chart's certificate: of no address that kubectl port-forward gives.
	const name = "meshvm-syncer.meshvm.svc"
	mesh.issue("server", &x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	address := programs.FreeAddress(t)
	syncer := programs.Start(t, programs.Syncer, "--manifests", t.TempDir(), "--kubeconfig", plane.Kubeconfig(), "--http-authorization", "kubernetes",
		"--listen", programs.FreeAddress(t), "--http-listen", address, "--client-ca-file", mesh.file("root-cert"),
		"--tls-cert-file", mesh.file("server"), "--tls-private-key-file", mesh.file("server-key"))
	syncer.WaitFor(t, "msg=serving")
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, test := range []struct {
		path, account string
		code          int
		want          string
	}{
		{"/healthz", "", http.StatusOK, "ok"},
		{"/status", "", http.StatusOK, "A token is needed"},
		{"/metrics", "", http.StatusUnauthorized, "want a token"},
		{"/metrics", "forged", http.StatusUnauthorized, "kubectl create token"},
		{"/metrics", "stranger", http.StatusForbidden, "--non-resource-url=/metrics"},
		{"/status/api/vms", "stranger", http.StatusForbidden, "--serviceaccount=" + namespace + ":stranger"},
		{"/metrics", "viewer", http.StatusOK, "meshvm_syncer_ready"},
		{"/status/api/vms", "viewer", http.StatusOK, `"total":0`},
	} {
		t.Run(test.path+" "+test.account, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if token := tokens[test.account]; token != "" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != test.code || !strings.Contains(string(body), test.want) {
				t.Errorf("%d %s (%v), want %d with %s", response.StatusCode, body, err, test.code, test.want)
			}
		})
	}
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"meshvmctl lookup", []string{"lookup", "x.example.com", "--tls-ca-file", mesh.file("root-cert"), "--tls-server-name", name}, 1, "passed"},
		{"meshvmctl vips", []string{"vips", "--tls-ca-file", mesh.file("root-cert"), "--tls-server-name", name}, 1, "no such host"},
		{"another name", []string{"lookup", "x.example.com", "--tls-ca-file", mesh.file("root-cert")}, 3, "cannot validate certificate for 127.0.0.1"},
		{"not trusted", []string{"vips", "--tls-server-name", name}, 3, "certificate signed by unknown authority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			process := programs.Start(t, programs.Operator, append(test.args, "--http", "https://"+address)...)
			if code, said := process.Wait(t), process.Output(); code != test.code || !strings.Contains(said, test.want) {
				t.Errorf("got exit code %d and %q, want %d and %q", code, said, test.code, test.want)
			}
		})
	}
}
