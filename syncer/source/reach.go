package source

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"
	mesh "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meshvm/meshvm/syncer/registry"
)

// Reach limits how far ServiceEntries are seen, by the labels of their namespaces: Istio's
// serviceEntryVisibility where that applies to sidecars. It narrows what exportTo says and never widens it.
// The zero value does not limit anything.
type Reach struct {
	said     *mesh.ServiceEntryVisibility
	policies []reachPolicy
}

// reachPolicy is how far the ServiceEntries of some namespaces are seen. All selectors must match.
type reachPolicy struct {
	visibility mesh.ServiceEntryVisibility_Visibility
	selectors  []labels.Selector
}

// newReach reads Istio's configuration. It fails when a selector makes no sense.
func newReach(said *mesh.ServiceEntryVisibility) (Reach, error) {
	if !said.GetApplyToSidecars() || len(said.GetPolicies()) == 0 && (Reach{said: said}).of(nil) == mesh.ServiceEntryVisibility_PUBLIC {
		return Reach{}, nil
	}
	reach := Reach{said: said}
	for i, policy := range said.GetPolicies() {
		compiled := reachPolicy{visibility: policy.GetVisibility()}
		for j, rule := range policy.GetMatchingRules() {
			selector := labels.Nothing() // What a rule of a newer Istio selects by is not known.
			if selected := rule.GetNamespaceSelector(); selected != nil {
				var err error
				if selector, err = namespaceSelector(selected); err != nil {
					return Reach{}, fmt.Errorf("serviceEntryVisibility.policies[%d].matchingRules[%d].namespaceSelector: %w", i, j, err)
				}
			}
			compiled.selectors = append(compiled.selectors, selector)
		}
		reach.policies = append(reach.policies, compiled)
	}
	return reach, nil
}

func namespaceSelector(said *mesh.LabelSelector) (labels.Selector, error) {
	selector := &metav1.LabelSelector{MatchLabels: said.GetMatchLabels()}
	for _, requirement := range said.GetMatchExpressions() {
		selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: requirement.GetKey(), Operator: metav1.LabelSelectorOperator(requirement.GetOperator()), Values: requirement.GetValues(),
		})
	}
	return metav1.LabelSelectorAsSelector(selector)
}

// equal reports whether both say the same.
func (r Reach) equal(other Reach) bool { return proto.Equal(r.said, other.said) }

// String is the limit in short, for logs.
func (r Reach) String() string {
	if r.said == nil {
		return "not limited"
	}
	return fmt.Sprintf("%s, with %d policies", Reach{said: r.said}.of(nil), len(r.policies))
}

// of is how far ServiceEntries of a namespace with these labels are seen: the first policy that matches says
// so, or the default.
func (r Reach) of(namespace labels.Set) mesh.ServiceEntryVisibility_Visibility {
	visibility := r.said.GetDefaultVisibility()
	for _, policy := range r.policies {
		if policy.matches(namespace) {
			visibility = policy.visibility
			break
		}
	}
	if visibility == mesh.ServiceEntryVisibility_VISIBILITY_UNSPECIFIED {
		return mesh.ServiceEntryVisibility_PUBLIC
	}
	return visibility
}

func (p reachPolicy) matches(namespace labels.Set) bool {
	for _, selector := range p.selectors {
		if !selector.Matches(namespace) {
			return false
		}
	}
	return true
}

// within is what of an exportTo is left where ServiceEntries of a namespace are seen so far only.
func within(visibility registry.Visibility, reach mesh.ServiceEntryVisibility_Visibility, namespace string) registry.Visibility {
	switch {
	case reach == mesh.ServiceEntryVisibility_PUBLIC:
		return visibility
	case reach == mesh.ServiceEntryVisibility_NAMESPACE && visibility.In(namespace):
		return registry.VisibleTo(namespace)
	}
	return registry.Nobody()
}

// labelsOf are a namespace's labels. Each has its name as one, even before it was seen: Kubernetes sees to
// that.
func (t *Translator) labelsOf(namespace string) labels.Set {
	if known := t.labels[namespace]; known != nil {
		return known
	}
	return labels.Set{corev1.LabelMetadataName: namespace}
}

// label notes a namespace's labels; nil: it is gone. When that changes how far its ServiceEntries are seen,
// these are due again.
func (t *Translator) label(namespace string, state *corev1.Namespace) {
	before := t.exports.Reach.of(t.labelsOf(namespace))
	if state == nil || len(state.Labels) == 0 {
		delete(t.labels, namespace)
	} else {
		own := labels.Set(maps.Clone(state.Labels))
		own[corev1.LabelMetadataName] = namespace
		t.labels[namespace] = own
	}
	if t.exports.Reach.of(t.labelsOf(namespace)) != before {
		if t.due == nil {
			t.due = map[string]bool{}
		}
		t.due[namespace] = true
	}
}

// Due picks the objects that changes since the last call concern although they have not changed themselves;
// to translate these again is the caller's part. Nil: there are none.
func (t *Translator) Due() func(metav1.Object) bool {
	namespaces := t.due
	if len(namespaces) == 0 {
		return nil
	}
	t.due = nil
	return func(state metav1.Object) bool { return isServiceEntry(state) && namespaces[state.GetNamespace()] }
}
