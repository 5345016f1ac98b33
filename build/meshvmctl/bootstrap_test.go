package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/deploy/vm/bootstrap"
	"github.com/meshvm/meshvm/test/controlplane"
)

// Users of the API server beside the administrator.
const (
	nobody  = "nobody"  // has no rights
	granter = "granter" // is an admin of namespaces, and of nothing else
)

var plane = controlplane.NewShared(controlplane.WithUser(nobody), controlplane.WithUser(granter))

// cluster is a real API server with a syncer's Service and authority in it, and a namespace for VMs.
type cluster struct {
	t       *testing.T
	plane   *controlplane.ControlPlane
	clients kubernetes.Interface
	// namespace is the VMs', and system the syncer's.
	namespace, system string
	pki               *pki
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, plane: plane.ControlPlane(t), pki: newPKI(t)}
	var err error
	if c.clients, err = kubernetes.NewForConfig(c.plane.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	c.namespace, c.system = c.plane.Namespace(t), c.plane.Namespace(t)
	c.createService("meshvm-syncer", corev1.ServiceTypeLoadBalancer, corev1.LoadBalancerIngress{IP: "192.0.2.10"}, corev1.LoadBalancerIngress{Hostname: "lb.example.org"})
	authority, err := os.ReadFile(c.pki.path("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	c.createConfigMap("meshvm-ca", map[string]string{"ca.crt": string(authority)})
	c.createAccount("vm")
	return c
}

func (c *cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) createAccount(name string) {
	c.t.Helper()
	_, err := c.clients.CoreV1().ServiceAccounts(c.namespace).Create(c.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	c.check(err)
}

func (c *cluster) createConfigMap(name string, data map[string]string) {
	c.t.Helper()
	_, err := c.clients.CoreV1().ConfigMaps(c.system).Create(c.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
	c.check(err)
}

func (c *cluster) createService(name string, kind corev1.ServiceType, ingresses ...corev1.LoadBalancerIngress) {
	c.t.Helper()
	services := c.clients.CoreV1().Services(c.system)
	service, err := services.Create(c.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Name: "http", Port: 15055}, {Name: "grpc", Port: 15054}}},
	}, metav1.CreateOptions{})
	c.check(err)
	if len(ingresses) > 0 {
		service.Status.LoadBalancer.Ingress = ingresses
		_, err = services.UpdateStatus(c.t.Context(), service, metav1.UpdateOptions{})
		c.check(err)
	}
}

// createRole makes the ClusterRole that VMs are granted, until the test ends.
func (c *cluster) createRole() {
	c.t.Helper()
	roles := c.clients.RbacV1().ClusterRoles()
	_, err := roles.Create(c.t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: bootstrap.WatcherRole},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"meshvm.io"}, Resources: []string{"registries"}, Verbs: []string{"watch"}}},
	}, metav1.CreateOptions{})
	c.check(err)
	c.t.Cleanup(func() {
		if err := roles.Delete(context.Background(), bootstrap.WatcherRole, metav1.DeleteOptions{}); err != nil {
			c.t.Errorf("remove the role: %v", err)
		}
	})
}

func (c *cluster) kubeconfig(user string) string {
	c.t.Helper()
	file, err := c.plane.KubeconfigFor(user)
	c.check(err)
	return file
}

// bootstrap runs the command as the administrator, for account vm and into out. Later flags win.
func (c *cluster) bootstrap(out string, flags ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	args := []string{"bootstrap", "--kubeconfig", c.plane.Kubeconfig(), "--namespace", c.namespace, "--service-account", "vm", "--syncer-namespace", c.system, "--out", out}
	return meshvmctl(c.t, append(args, flags...)...)
}

// review asks the API server whose a token is, as a syncer does.
func (c *cluster) review(token string) authenticationv1.TokenReviewStatus {
	c.t.Helper()
	review, err := c.clients.AuthenticationV1().TokenReviews().Create(c.t.Context(), &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{"meshvm"}},
	}, metav1.CreateOptions{})
	c.check(err)
	return review.Status
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// contents are the files of a folder, by name.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		files[entry.Name()] = read(t, filepath.Join(folder, entry.Name()))
	}
	return files
}

// withoutToken fails the test when something that is printed holds a part of a token.
func withoutToken(t *testing.T, token string, printed ...string) {
	t.Helper()
	for part := range strings.SplitSeq(strings.TrimSpace(token), ".") {
		for _, text := range printed {
			if part != "" && strings.Contains(text, part) {
				t.Errorf("The token, or a part of it, is in %q", text)
			}
		}
	}
}

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
		for _, want := range []string{"Corefile", "good until 20", "cp -a vm/. /etc/meshvm", "/etc/meshvm/resolv.conf", "meshvmctl token --namespace " + c.namespace + " --service-account vm"} {
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
		"another place":     {[]string{"--install-dir", "/opt/mesh"}, []string{"tls /opt/mesh/ca.pem\n", "token /opt/mesh/token\n", "forward . /opt/mesh/resolv.conf {\n", "/. /opt/mesh "}},
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

func TestBootstrapGrants(t *testing.T) {
	c := newCluster(t)
	c.createRole()
	out := filepath.Join(t.TempDir(), "vm")
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

func TestBootstrapRefused(t *testing.T) {
	c := newCluster(t)
	c.createService("internal", corev1.ServiceTypeClusterIP)
	c.createService("pending", corev1.ServiceTypeLoadBalancer)
	c.createConfigMap("empty", nil)
	c.createConfigMap("wrong", map[string]string{"ca.crt": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"})
	given := []string{"--syncer", "192.0.2.1:15054", "--ca-file", c.pki.path("ca.crt")}
	notADirectory := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADirectory, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	unrelated := t.TempDir()
	if err := os.WriteFile(filepath.Join(unrelated, "thesis.tex"), []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		flags []string
		code  int
		want  []string
	}{
		"no ServiceAccount": {[]string{"--service-account", "absent"}, exitRefused, []string{
			"ServiceAccount " + c.namespace + "/absent does not exist", "kubectl create serviceaccount absent --namespace " + c.namespace}},
		"no ServiceAccount, with Istio's certificates": {[]string{"--service-account", "absent", "--istio-certs"}, exitRefused, []string{"kubectl create serviceaccount absent"}},
		"no namespace":          {[]string{"--namespace", "absent"}, exitRefused, []string{"ServiceAccount absent/vm does not exist"}},
		"no Service":            {[]string{"--syncer-service", "absent"}, exitRefused, []string{"no Service " + c.system + "/absent", "--syncer HOST:PORT"}},
		"Service of the inside": {[]string{"--syncer-service", "internal"}, exitRefused, []string{"type ClusterIP", "--syncer HOST:PORT"}},
		"no ingress yet":        {[]string{"--syncer-service", "pending"}, exitRefused, []string{"no address of its load balancer yet", "--syncer HOST:PORT"}},
		"no authority":          {[]string{"--ca-configmap", "absent"}, exitRefused, []string{"no ConfigMap " + c.system + "/absent", "--ca-file"}},
		"no authority's Secret": {[]string{"--ca-secret", "absent"}, exitRefused, []string{"no Secret " + c.system + "/absent", "--ca-file"}},
		"no key in ConfigMap":   {[]string{"--ca-configmap", "empty"}, exitRefused, []string{"/empty has no key ca.crt"}},
		"no certificate":        {[]string{"--ca-configmap", "wrong"}, exitRefused, []string{"/wrong: certificate 1"}},
		"no such CA file":       {[]string{"--ca-file", "/no/such/file"}, exitRefused, []string{"/no/such/file"}},
		"a key for a CA":        {[]string{"--ca-file", c.pki.path("ca.key")}, exitRefused, []string{"ca.key: no PEM certificate in it"}},
		"no right to the Service": {[]string{"--kubeconfig", c.kubeconfig(nobody)}, exitRefused, []string{
			`cannot get resource "services"`, `"nobody"`, "--syncer HOST:PORT"}},
		"no right to the authority": {[]string{"--kubeconfig", c.kubeconfig(nobody), "--syncer", "192.0.2.1:15054"}, exitRefused, []string{
			`cannot get resource "configmaps"`, "--ca-file"}},
		"no right to tokens": {append(given, "--kubeconfig", c.kubeconfig(nobody)), exitRefused, []string{
			"request a token of ServiceAccount " + c.namespace + "/vm", `cannot create resource "serviceaccounts/token"`}},
		"no right to create accounts": {append(given, "--kubeconfig", c.kubeconfig(nobody), "--create-service-account"), exitRefused, []string{
			`cannot create resource "serviceaccounts"`}},
		"a file for DIR":         {[]string{"--out", notADirectory}, exitRefused, []string{notADirectory, "not a directory"}},
		"a file above DIR":       {[]string{"--out", filepath.Join(notADirectory, "vm")}, exitRefused, []string{notADirectory, "not a directory"}},
		"nobody may write there": {[]string{"--out", "/proc/vm"}, exitRefused, []string{"/proc"}},
		"somebody's folder":      {[]string{"--out", unrelated}, exitRefused, []string{unrelated + " has other files and no ca.pem", "--force"}},
		"no such context":        {[]string{"--context", "absent"}, exitUsage, []string{`context "absent" does not exist`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "vm")
			code, stdout, stderr := c.bootstrap(out, test.flags...)
			if code != test.code || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and nothing else", code, stdout, stderr, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("Got %q, want it to say %q", stderr, want)
				}
			}
			if strings.Count(stderr, "\n") != 1 {
				t.Errorf("Got %q, want one line", stderr)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("Got a folder, want none")
			}
		})
	}
	if got := contents(t, unrelated); len(got) != 1 {
		t.Errorf("Somebody's folder: got %q, want it as it was", got)
	}
	if got := read(t, notADirectory); got != "mine\n" {
		t.Errorf("Somebody's file: got %q, want it as it was", got)
	}
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
