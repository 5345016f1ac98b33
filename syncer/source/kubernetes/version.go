package kubernetes

import (
	"context"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/source"
)

// Istio's kinds are the same in every version that it serves. Which versions those are changes when Istio is
// upgraded: a definition gains one, and later loses another. The kind is then read in another version, and
// nothing else happens.

// istioGroup is that of Istio's kinds.
const istioGroup = "networking.istio.io"

// istioVersions are the versions of Istio's kinds, the preferred first.
var istioVersions = []string{"v1", "v1beta1", "v1alpha3"}

// versionsOf are the versions that a custom resource is read in, the preferred first.
func versionsOf(resource schema.GroupVersionResource) []string {
	if resource.Group == istioGroup {
		return istioVersions
	}
	return []string{resource.Version}
}

// servedVersion is the preferred one of a kind's versions that its definition serves, empty where it serves
// none of them.
func servedVersion(definition *apiextensionsv1.CustomResourceDefinition, k kind) string {
	for _, version := range k.versions {
		if slices.ContainsFunc(definition.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
			return v.Name == version && v.Served
		}) {
			return version
		}
	}
	return ""
}

// inVersion is a kind with a definition, read in one of its versions and brought by the feed of a number.
func (k kind) inVersion(version string, number int) kind {
	k.resource.Version, k.feed = version, number
	resource := k.resource
	k.listWatch = func(c *clients) *cache.ListWatch {
		client := c.dynamic.Resource(resource)
		return listWatch(client.List, client.Watch)
	}
	return k
}

// versions follows a kind with a definition, in one version at a time: when that changes, one informer takes
// the place of another as soon as it has delivered what exists. Nothing is missing in between.
type versions struct {
	source  *Source
	settled func() // Called when what exists was delivered.
	wake    func() // Called when take has something to take.
	fail    context.CancelCauseFunc

	definition    types.UID // That both are of.
	number        int       // Of the latest feed.
	current, next *version
}

// version follows a kind in one version.
type version struct {
	kind     kind
	informer *running
	synced   chan struct{}
}

// follow has the kind of a definition followed in a version, unless it is already.
func (v *versions) follow(ctx context.Context, k kind, name string, definition types.UID) {
	if v.next != nil && v.next.kind.resource.Version != name {
		v.drop(v.next)
		v.next = nil
	}
	if v.next != nil || v.current != nil && v.current.kind.resource.Version == name {
		return
	}
	v.definition = definition
	v.number++
	next := &version{kind: k.inVersion(name, v.number), synced: make(chan struct{})}
	v.source.log.Info("following a kind, its definition is there", "kind", k.name, "definition", k.definition, "version", name)
	next.informer = v.source.run(ctx, next.kind, v.source.handler(next.kind), func() {
		close(next.synced)
		v.settled()
		v.wake()
	}, v.fail)
	v.next = next
}

// take has the next version take the place of the current one, once it has delivered.
func (v *versions) take() {
	if v.next == nil {
		return
	}
	select {
	case <-v.next.synced:
	default:
		return
	}
	if v.current != nil {
		v.drop(v.current)
		v.source.log.Info("a kind is read in another version", "kind", v.current.kind.name,
			"former", v.current.kind.resource.Version, "version", v.next.kind.resource.Version)
	}
	v.current, v.next = v.next, nil
}

// unfollow stops to follow the kind, if it is followed, and takes away what it brought.
func (v *versions) unfollow() {
	for _, followed := range []*version{v.current, v.next} {
		if followed != nil {
			v.drop(followed)
			if followed.kind.name == source.KindServiceEntry {
				v.source.podSelectors.gone()
			}
			v.source.log.Info("no longer following a kind, its definition is gone",
				"kind", followed.kind.name, "definition", followed.kind.definition, "version", followed.kind.resource.Version)
		}
	}
	v.current, v.next, v.definition = nil, nil, ""
}

// drop stops an informer, and takes away what only it brought. What failed is no longer of interest: an
// informer that goes on says so again.
func (v *versions) drop(of *version) {
	of.informer.stop()
	v.source.queue.removeFeed(feed{of.kind.name, of.kind.feed})
	v.source.health.forget(of.kind)
}

// stop ends what runs.
func (v *versions) stop() {
	for _, followed := range []*version{v.current, v.next} {
		if followed != nil {
			followed.informer.stop()
		}
	}
}
