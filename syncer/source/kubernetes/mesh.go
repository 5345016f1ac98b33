package kubernetes

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/source"
)

// meshKind is how the ConfigMap of Istio's mesh configuration is watched: that one only.
func meshKind(name types.NamespacedName) kind {
	return kind{
		name:     source.KindConfigMap,
		resource: corev1.SchemeGroupVersion.WithResource("configmaps"),
		of:       name.String(),
		selector: selector{field: fields.OneTermEqualSelector(metav1.ObjectNameField, name.Name).String()},
		example:  &corev1.ConfigMap{},
		listWatch: func(c *clients) *cache.ListWatch {
			client := c.core.ConfigMaps(name.Namespace)
			return listWatch(client.List, client.Watch)
		},
		trim: func(object runtime.Object) metav1.Object {
			configMap, ok := object.(*corev1.ConfigMap)
			if !ok {
				return nil
			}
			return &corev1.ConfigMap{ObjectMeta: identity(configMap), Data: keep(configMap.Data, source.MeshKey)}
		},
	}
}

// labelled is a kind with the labels that the mesh configuration may go by: those of namespaces.
func (s *Source) labelled(k kind) kind {
	if s.config.Mesh.Followed() && k.name == source.KindNamespace {
		k.trim = trimLabelledNamespace
	}
	return k
}

func trimLabelledNamespace(object runtime.Object) metav1.Object {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return nil
	}
	trimmed := &corev1.Namespace{ObjectMeta: identity(namespace)}
	trimmed.Labels = namespace.Labels
	return trimmed
}

// meshSighting is the latest state of the ConfigMap.
type meshSighting struct {
	wake chan struct{}

	mu        sync.Mutex
	configMap *corev1.ConfigMap // Nil: it is not there.
}

func newMeshSighting() *meshSighting { return &meshSighting{wake: make(chan struct{}, 1)} }

// OnAdd, OnUpdate and OnDelete make a meshSighting an informer's handler.
func (s *meshSighting) OnAdd(object any, _ bool) { s.see(object) }
func (s *meshSighting) OnUpdate(_, object any)   { s.see(object) }
func (s *meshSighting) OnDelete(any)             { s.set(nil) }

func (s *meshSighting) see(object any) {
	if configMap, ok := object.(*corev1.ConfigMap); ok {
		s.set(configMap)
	}
}

func (s *meshSighting) set(configMap *corev1.ConfigMap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configMap = configMap
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *meshSighting) latest() *corev1.ConfigMap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.configMap
}

// followMesh watches the ConfigMap of the mesh configuration. settled is called when it is known whether it
// is there.
func (s *Source) followMesh(ctx context.Context, settled func()) error {
	return s.inform(ctx, meshKind(s.config.Mesh.ConfigMap), s.meshSighting, settled)
}

// applyMesh has everything follow the mesh configuration: what it concerns is translated again, with all
// other pending changes.
func (s *Source) applyMesh() {
	if !s.config.Mesh.Followed() {
		return
	}
	if concerned := s.mesh.Follow(s.meshSighting.latest(), ""); concerned != nil {
		s.queue.again(concerned)
	}
}
