package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
)

const (
	// definitionTimeout bounds the wait for one definition to come or go.
	definitionTimeout = time.Minute
	definitionPoll    = 20 * time.Millisecond
)

var definitions = apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")

// definition is a custom resource definition: the object as published, and what
// is in it.
type definition struct {
	object *unstructured.Unstructured
	apiextensionsv1.CustomResourceDefinition
}

// InstallIstioCRDs applies the custom resource definitions of the istio.io/api
// module that meshvm is built with. It returns once all of them are Established,
// every version of them can be listed, and discovery names them. Applying them
// again changes nothing.
func (c *ControlPlane) InstallIstioCRDs(ctx context.Context) error {
	published, clients, err := c.istioDefinitions(ctx)
	if err != nil {
		return fmt.Errorf("install Istio's custom resource definitions: %w", err)
	}
	for _, d := range published {
		options := metav1.ApplyOptions{FieldManager: "meshvm-controlplane", Force: true}
		if _, err := clients.dynamic.Resource(definitions).Apply(ctx, d.Name, d.object, options); err != nil {
			return fmt.Errorf("install custom resource definition %s: %w", d.Name, err)
		}
	}
	for _, d := range published {
		if err := clients.await(ctx, d, clients.served); err != nil {
			return fmt.Errorf("wait for custom resource definition %s to be served: %w", d.Name, err)
		}
	}
	return nil
}

// RemoveIstioCRDs removes what InstallIstioCRDs installed, with every object of
// those kinds. It returns once none of them is served. Definitions that are not
// there are passed over.
func (c *ControlPlane) RemoveIstioCRDs(ctx context.Context) error {
	published, clients, err := c.istioDefinitions(ctx)
	if err != nil {
		return fmt.Errorf("remove Istio's custom resource definitions: %w", err)
	}
	for _, d := range published {
		err := clients.dynamic.Resource(definitions).Delete(ctx, d.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove custom resource definition %s: %w", d.Name, err)
		}
	}
	for _, d := range published {
		if err := clients.await(ctx, d, clients.gone); err != nil {
			return fmt.Errorf("wait for custom resource definition %s to be gone: %w", d.Name, err)
		}
	}
	return nil
}

func (c *ControlPlane) istioDefinitions(ctx context.Context) ([]definition, *definitionClients, error) {
	file, err := istioDefinitionsFile(ctx, c.root)
	if err != nil {
		return nil, nil, err
	}
	published, err := readDefinitions(file)
	if err != nil {
		return nil, nil, err
	}
	objects, err := dynamic.NewForConfig(c.RESTConfig())
	if err != nil {
		return nil, nil, err
	}
	index, err := discovery.NewDiscoveryClientForConfig(c.RESTConfig())
	if err != nil {
		return nil, nil, err
	}
	return published, &definitionClients{objects, index}, nil
}

// istioDefinitionsFile asks the go command where the module is that meshvm's
// go.mod names, so that the definitions are those of the Go types in use.
func istioDefinitionsFile(ctx context.Context, root string) (string, error) {
	const module = "istio.io/api"
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	list.Dir = root
	output, err := list.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("find module %s: %w", module, err)
	}
	folder := strings.TrimSpace(string(output))
	if folder == "" {
		return "", fmt.Errorf("find module %s: it is not downloaded: run `go mod download %s` in %s", module, module, root)
	}
	return filepath.Join(folder, "kubernetes", "customresourcedefinitions.gen.yaml"), nil
}

// readDefinitions parses a file of YAML documents.
func readDefinitions(file string) ([]definition, error) {
	content, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	var read []definition
	documents := yaml.NewYAMLOrJSONDecoder(content, 64<<10)
	for number := 1; ; number++ {
		var object map[string]any
		err := documents.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", file, number, err)
		}
		if len(object) == 0 {
			continue // nothing but a comment
		}
		d := definition{object: &unstructured.Unstructured{Object: object}}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, &d.CustomResourceDefinition); err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", file, number, err)
		}
		if d.Kind != "CustomResourceDefinition" || d.Name == "" {
			return nil, fmt.Errorf("%s: document %d is a %q named %q, not a custom resource definition", file, number, d.Kind, d.Name)
		}
		read = append(read, d)
	}
	if len(read) == 0 {
		return nil, fmt.Errorf("%s: no custom resource definition in it", file)
	}
	return read, nil
}

// definitionClients see definitions from all sides.
type definitionClients struct {
	dynamic dynamic.Interface
	index   *discovery.DiscoveryClient
}

// await polls until the condition holds. The conditions return what is still
// amiss, empty when they hold, and an error when waiting is of no use.
func (c *definitionClients) await(ctx context.Context, d definition, holds func(context.Context, definition) (string, error)) error {
	var amiss string
	err := wait.PollUntilContextTimeout(ctx, definitionPoll, definitionTimeout, true, func(ctx context.Context) (bool, error) {
		var err error
		amiss, err = holds(ctx, d)
		return amiss == "", err
	})
	if err != nil && amiss != "" {
		return fmt.Errorf("%w: %s", err, amiss)
	}
	return err
}

// served: the definition is Established, each of its versions can be listed, and
// discovery names the kind in it.
func (c *definitionClients) served(ctx context.Context, d definition) (string, error) {
	current, err := c.dynamic.Resource(definitions).Get(ctx, d.Name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	var state apiextensionsv1.CustomResourceDefinition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(current.Object, &state); err != nil {
		return "", err
	}
	established := slices.ContainsFunc(state.Status.Conditions, func(condition apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue
	})
	if !established {
		return fmt.Sprintf("not Established: %+v", state.Status.Conditions), nil
	}
	for resource := range d.served() {
		if listable, err := c.listable(ctx, resource); err != nil || !listable {
			return fmt.Sprintf("%s cannot be listed", resource), err
		}
		if listed, err := c.discovered(ctx, resource); err != nil || !listed {
			return fmt.Sprintf("discovery does not name %s", resource), err
		}
	}
	return "", nil
}

// gone: the definition is not there, and none of its versions is served.
func (c *definitionClients) gone(ctx context.Context, d definition) (string, error) {
	_, err := c.dynamic.Resource(definitions).Get(ctx, d.Name, metav1.GetOptions{})
	if err == nil {
		return "it is still there", nil
	}
	if !apierrors.IsNotFound(err) {
		return "", err
	}
	for resource := range d.served() {
		if listable, err := c.listable(ctx, resource); err != nil || listable {
			return fmt.Sprintf("%s can still be listed", resource), err
		}
		if listed, err := c.discovered(ctx, resource); err != nil || listed {
			return fmt.Sprintf("discovery still names %s", resource), err
		}
	}
	return "", nil
}

// served yields the resources that the definition stands for.
func (d *definition) served() func(yield func(schema.GroupVersionResource) bool) {
	return func(yield func(schema.GroupVersionResource) bool) {
		for _, version := range d.Spec.Versions {
			resource := schema.GroupVersionResource{Group: d.Spec.Group, Version: version.Name, Resource: d.Spec.Names.Plural}
			if version.Served && !yield(resource) {
				return
			}
		}
	}
}

func (c *definitionClients) listable(ctx context.Context, resource schema.GroupVersionResource) (bool, error) {
	_, err := c.dynamic.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func (c *definitionClients) discovered(ctx context.Context, resource schema.GroupVersionResource) (bool, error) {
	list, err := c.index.ServerResourcesForGroupVersionWithContext(ctx, resource.GroupVersion().String())
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource.Resource }), nil
}
