package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Namespace makes a fresh namespace for a test and returns its name, which
// begins with the test's. At the test's end the namespace and everything in it
// are removed, as the namespace controller of a whole cluster would: a test that
// watches all namespaces sees nothing of the tests before it.
func (c *ControlPlane) Namespace(t testing.TB) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: namespacePrefix(t.Name())}}
	created, err := client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	t.Cleanup(func() {
		if c.stopped() {
			return // and everything with it
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := c.removeNamespace(ctx, client, created.Name); err != nil {
			t.Errorf("remove namespace %s: %v", created.Name, err)
		}
	})
	return created.Name
}

func (c *ControlPlane) stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// namespacePrefix turns a test's name into the beginning of a DNS label that
// leaves room for the API server's suffix.
func namespacePrefix(test string) string {
	label := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, test)
	return strings.Trim(label[:min(len(label), 50)], "-") + "-"
}

// removeNamespace does the namespace controller's part: nothing new may come
// once deletion was asked for, then the content goes, then the namespace.
func (c *ControlPlane) removeNamespace(ctx context.Context, client *kubernetes.Clientset, name string) error {
	namespaces := client.CoreV1().Namespaces()
	err := namespaces.Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the test did all of this itself
	}
	if err != nil {
		return err
	}
	if err := c.removeContent(ctx, client, name); err != nil {
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

// removeContent deletes every object of every kind that the API server can list
// in the namespace.
func (c *ControlPlane) removeContent(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	config := c.RESTConfig()
	config.WarningHandler = rest.NoWarnings{} // of kinds that are deprecated
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	kinds, err := client.DiscoveryClient.ServerPreferredNamespacedResourcesWithContext(ctx)
	// A definition that is just being removed is no reason to keep the rest.
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return fmt.Errorf("discover what can be in it: %w", err)
	}
	now, background := int64(0), metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background}
	var failures []error
	for _, group := range kinds {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		if err != nil {
			return err
		}
		for _, kind := range group.APIResources {
			if !slices.Contains(kind.Verbs, "deletecollection") {
				continue
			}
			err := objects.Resource(version.WithResource(kind.Name)).Namespace(namespace).
				DeleteCollection(ctx, options, metav1.ListOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				failures = append(failures, fmt.Errorf("remove its %s: %w", kind.Name, err))
			}
		}
	}
	return errors.Join(failures...)
}
