package manifest

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubejson "sigs.k8s.io/json"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
)

// meshKind is how the ConfigMap of Istio's mesh configuration is read. All others are passed over.
func meshKind(name types.NamespacedName) kind {
	decode := decodeObject[corev1.ConfigMap]
	return kind{source.KindConfigMap, []string{"v1"}, true, func(v value) (metav1.Object, []fault) {
		var named metav1.PartialObjectMetadata
		if err := kubejson.UnmarshalCaseSensitivePreserveInts(v.json, &named); err != nil {
			return nil, nil // Whatever it is, it is not ours.
		}
		if namespace := named.Namespace; named.Name != name.Name || namespace != name.Namespace && (namespace != "" || name.Namespace != metav1.NamespaceDefault) {
			return nil, nil
		}
		return decode(v)
	}}
}

// takeMesh has everything follow the mesh configuration, if that is among the changes, or at first. It
// returns the other changes, and with them the objects that it concerns.
func (s *Source) takeMesh(changes []source.Change) []source.Change {
	if !s.config.Mesh.Followed() {
		return changes
	}
	name := s.config.Mesh.ConfigMap
	object := registry.Object{Kind: source.KindConfigMap, Namespace: name.Namespace, Name: name.Name, Cluster: s.claims.cluster}
	others := make([]source.Change, 0, len(changes))
	changed := map[registry.Object]bool{}
	for _, change := range changes {
		changed[change.Object] = true
		if change.Object != object {
			others = append(others, change)
		}
	}
	if s.meshSeen && !changed[object] {
		return others
	}
	s.meshSeen = true
	var configMap *corev1.ConfigMap
	at := ""
	if serving, found := s.serving[object]; found {
		configMap, _ = serving.object.state.(*corev1.ConfigMap)
		at = serving.at()
	}
	if concerned := s.mesh.Follow(configMap, at); concerned != nil {
		for _, change := range s.picked(concerned) {
			if !changed[change.Object] {
				others = append(others, change)
			}
		}
	}
	return others
}

// picked are the objects that are picked by their present states.
func (s *Source) picked(by func(metav1.Object) bool) []source.Change {
	var changes []source.Change
	for object, serving := range s.serving {
		if by(serving.object.state) {
			changes = append(changes, source.Change{Object: object, State: serving.object.state})
		}
	}
	return changes
}
