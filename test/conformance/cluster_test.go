package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/test/controlplane"
)

// cluster is the real API server, as tests write to it.
type cluster struct {
	t       *testing.T
	plane   *controlplane.ControlPlane
	clients kubernetes.Interface
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, plane: plane.ControlPlane(t)}
	var err error
	if c.clients, err = kubernetes.NewForConfig(c.plane.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	return c
}

// change is one or more writes to the cluster that must be made in order.
type change func(ctx context.Context, c *cluster) error

// make makes the changes, several at a time, and in no order.
func (c *cluster) make(changes ...change) {
	c.t.Helper()
	const workers = 8
	queue := make(chan change)
	failures := make([]error, workers)
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for change := range queue {
				if err := change(c.t.Context(), c); err != nil {
					failures[worker] = errors.Join(failures[worker], err)
				}
			}
		})
	}
	for _, change := range changes {
		queue <- change
	}
	close(queue)
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		c.t.Fatal(err)
	}
}

// inOrder is changes that are made one after the other.
func inOrder(changes ...change) change {
	return func(ctx context.Context, c *cluster) error {
		for _, change := range changes {
			if err := change(ctx, c); err != nil {
				return err
			}
		}
		return nil
	}
}

// create is the creation of a Namespace, Service or EndpointSlice.
func create(object metav1.Object) change {
	return func(ctx context.Context, c *cluster) (err error) {
		switch object := object.(type) {
		case *corev1.Namespace:
			_, err = c.clients.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{})
		case *corev1.Service:
			_, err = c.clients.CoreV1().Services(object.Namespace).Create(ctx, object, metav1.CreateOptions{})
		case *discoveryv1.EndpointSlice:
			_, err = c.clients.DiscoveryV1().EndpointSlices(object.Namespace).Create(ctx, object, metav1.CreateOptions{})
		default:
			err = fmt.Errorf("no such kind here: %T", object)
		}
		if err != nil {
			return fmt.Errorf("create %s: %w", describe(object), err)
		}
		return nil
	}
}

// update is the replacement of a Service or EndpointSlice by what it should be now.
func update(object metav1.Object) change {
	return func(ctx context.Context, c *cluster) (err error) {
		switch object := object.(type) {
		case *corev1.Service:
			_, err = c.clients.CoreV1().Services(object.Namespace).Update(ctx, object, metav1.UpdateOptions{})
		case *discoveryv1.EndpointSlice:
			_, err = c.clients.DiscoveryV1().EndpointSlices(object.Namespace).Update(ctx, object, metav1.UpdateOptions{})
		default:
			err = fmt.Errorf("no such kind here: %T", object)
		}
		if err != nil {
			return fmt.Errorf("update %s: %w", describe(object), err)
		}
		return nil
	}
}

// remove is the deletion of a Namespace, Service or EndpointSlice. What is in a Namespace must be gone
// before: there is no controller here that would clear it.
func remove(object metav1.Object) change {
	return func(ctx context.Context, c *cluster) (err error) {
		var now metav1.DeleteOptions
		switch object := object.(type) {
		case *corev1.Namespace:
			err = c.removeNamespace(ctx, object.Name)
		case *corev1.Service:
			err = c.clients.CoreV1().Services(object.Namespace).Delete(ctx, object.Name, now)
		case *discoveryv1.EndpointSlice:
			err = c.clients.DiscoveryV1().EndpointSlices(object.Namespace).Delete(ctx, object.Name, now)
		default:
			err = fmt.Errorf("no such kind here: %T", object)
		}
		if err != nil {
			return fmt.Errorf("delete %s: %w", describe(object), err)
		}
		return nil
	}
}

func (c *cluster) removeNamespace(ctx context.Context, name string) error {
	namespaces := c.clients.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	namespace, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	namespace.Spec.Finalizers = nil
	_, err = namespaces.Finalize(ctx, namespace, metav1.UpdateOptions{})
	return err
}

// describe names an object for messages.
func describe(object metav1.Object) string {
	switch object.(type) {
	case *corev1.Namespace:
		return "Namespace " + object.GetName()
	case *corev1.Service:
		return "Service " + object.GetNamespace() + "/" + object.GetName()
	case *discoveryv1.EndpointSlice:
		return "EndpointSlice " + object.GetNamespace() + "/" + object.GetName()
	}
	return fmt.Sprintf("%T %s/%s", object, object.GetNamespace(), object.GetName())
}

// mark creates one object of each kind and returns the names that exist because of them, and only once all
// of them are known. Slices are of two kinds: those that Kubernetes makes, and those that people make.
func (c *cluster) mark(number int) []string {
	c.t.Helper()
	marker := fmt.Sprintf("marker-%d", number)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: marker}}
	changes, names := []change{create(namespace)}, []string{marker + ".svc.cluster.local."}
	for name, labelled := range map[string]bool{marker: true, marker + "-made": false} {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone},
		}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Labels: sliceLabels(name, labelled)},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.255.1"}}},
		}
		changes = append(changes, create(service), create(slice))
		names = append(names, name+".default.svc.cluster.local.")
	}
	c.make(changes...)
	return names
}

// sliceLabels is the labels that Kubernetes' own controller gives to an EndpointSlice of a Service.
func sliceLabels(service string, headless bool) map[string]string {
	labels := map[string]string{
		discoveryv1.LabelServiceName: service,
		discoveryv1.LabelManagedBy:   "endpointslice-controller.k8s.io",
	}
	if headless {
		labels[corev1.IsHeadlessService] = ""
	}
	return labels
}

// clear removes everything that the world holds, and leaves what was there before.
func (c *cluster) clear(w, before *world) {
	c.t.Helper()
	var changes []change
	for name, service := range w.services {
		if before.services[name] == nil {
			changes = append(changes, remove(service))
		}
	}
	for name, slice := range w.slices {
		if before.slices[name] == nil {
			changes = append(changes, remove(slice))
		}
	}
	c.make(changes...)
	changes = nil
	for name, namespace := range w.namespaces {
		if before.namespaces[name] == nil {
			changes = append(changes, remove(namespace))
		}
	}
	c.make(changes...)
}
