package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
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

// createRole makes the ClusterRole that we ship for VMs, until the test ends.
func (c *cluster) createRole() {
	c.t.Helper()
	c.check(c.plane.CreateWatcherRole(c.t.Context()))
	c.t.Cleanup(func() {
		if err := c.clients.RbacV1().ClusterRoles().Delete(context.Background(), bootstrap.WatcherRole, metav1.DeleteOptions{}); err != nil {
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
