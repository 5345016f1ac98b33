//go:build chart

package chart

import (
	"context"
	"fmt"
	"testing"
	"time"

	istio "istio.io/client-go/pkg/clientset/versioned"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"github.com/meshvm/meshvm/test/controlplane"
)

// patience bounds every wait, on machines that are slow.
const patience = time.Minute

// cluster is the real API server, and those who play its controllers.
type cluster struct {
	t        *testing.T
	plane    *controlplane.ControlPlane
	clients  kubernetes.Interface
	istio    istio.Interface
	dynamic  dynamic.Interface
	mappings *restmapper.DeferredDiscoveryRESTMapper
}

// newCluster is the control plane that tests share, with the namespaces that the chart is installed in.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := connect(t, plane.ControlPlane(t))
	for _, name := range []string{namespace, "istio-system"} {
		_, err := c.clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	return c
}

// connect is a control plane that has the kinds that the chart may make, and nothing else.
func connect(t *testing.T, plane *controlplane.ControlPlane) *cluster {
	t.Helper()
	c := &cluster{t: t, plane: plane}
	config := c.plane.RESTConfig()
	var err error
	if c.clients, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if c.istio, err = istio.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	discovered, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c.mappings = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discovered))
	c.fixtures()
	return c
}

// install runs helm install or upgrade with values, and has the release uninstalled at the test's end.
func (c *cluster) install(version, text string) {
	c.t.Helper()
	if err := c.try(version, text); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.uninstall(ctx, version); err != nil {
			c.t.Error(err)
		}
	})
}

func (c *cluster) uninstall(ctx context.Context, version string) error {
	if _, err := helm(ctx, c.t.TempDir(), version, "uninstall", release, "--namespace", namespace, "--kubeconfig", c.plane.Kubeconfig(), "--ignore-not-found"); err != nil {
		return err
	}
	// Helm keeps it: it may hold a certificate that is not the chart's.
	if err := c.clients.CoreV1().Secrets(namespace).Delete(ctx, "meshvm-syncer-tls", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// upgrade is helm upgrade of what was installed.
func (c *cluster) upgrade(version, text string) {
	c.t.Helper()
	if err := c.try(version, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) try(version, text string) error {
	c.t.Helper()
	args := append([]string{"upgrade", "--install", release, chartFolder(), "--namespace", namespace, "--kubeconfig", c.plane.Kubeconfig()}, values(c.t, text)...)
	_, err := helm(c.t.Context(), c.t.TempDir(), version, args...)
	return err
}

// apply applies YAML as kubectl apply --server-side --validate=strict does.
func (c *cluster) apply(text string) error {
	objects, err := parse(text)
	if err != nil {
		return err
	}
	for _, object := range objects {
		kind := object.GroupVersionKind()
		mapping, err := c.mappings.RESTMapping(kind.GroupKind(), kind.Version)
		if meta.IsNoMatchError(err) {
			c.mappings.Reset()
			mapping, err = c.mappings.RESTMapping(kind.GroupKind(), kind.Version)
		}
		if err != nil {
			return fmt.Errorf("apply %s %s: %w", kind.Kind, object.GetName(), err)
		}
		var resource dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			resource = c.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}
		body, err := object.MarshalJSON()
		if err != nil {
			return err
		}
		_, err = resource.Patch(c.t.Context(), object.GetName(), "application/apply-patch+yaml", body,
			metav1.PatchOptions{FieldManager: "test", Force: new(true), FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			return fmt.Errorf("apply %s %s: %w", kind.Kind, object.GetName(), err)
		}
	}
	return nil
}

// eventually waits until check has nothing to say.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		<-tick.C
	}
}

// never looks whether something works that may not, for several times as long as it takes with all rights.
func never(t *testing.T, what string, works func() error) {
	t.Helper()
	enough := time.NewTimer(2 * time.Second)
	defer enough.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if works() == nil {
			t.Fatalf("%s: it works, want it broken", what)
		}
		select {
		case <-enough.C:
			return
		case <-tick.C:
		}
	}
}
