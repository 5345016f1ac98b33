package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

func TestServedVersion(t *testing.T) {
	istio := customKind("X", schema.GroupVersionResource{Group: istioGroup, Version: "v1", Resource: "xs"}, decodeServiceEntry)
	other := customKind("X", schema.GroupVersionResource{Group: "example.com", Version: "v2", Resource: "xs"}, decodeServiceEntry)
	for _, test := range []struct {
		name   string
		kind   kind
		served string // Versions; one that is there but not served in brackets.
		want   string
	}{
		{"all, v1 is preferred", istio, "v1alpha3 v1beta1 v1", "v1"},
		{"an Istio before v1", istio, "v1alpha3 v1beta1", "v1beta1"},
		{"the first Istios", istio, "v1alpha3", "v1alpha3"},
		{"v1 is there but not served", istio, "v1alpha3 (v1)", "v1alpha3"},
		{"only versions to come", istio, "v2", ""},
		{"none is served", istio, "(v1) (v1beta1)", ""},
		{"another group's own version", other, "v1 v2", "v2"},
		{"not another group's other versions", other, "v1 v1beta1 v1alpha3", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			definition := &apiextensionsv1.CustomResourceDefinition{}
			for name := range strings.FieldsSeq(test.served) {
				definition.Spec.Versions = append(definition.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{
					Name: strings.Trim(name, "()"), Served: !strings.HasPrefix(name, "("),
				})
			}
			if got := servedVersion(definition, test.kind); got != test.want {
				t.Errorf("served version: got %q, want %q", got, test.want)
			}
			if refusal := refusalOf(definition, test.kind); (refusal != "") != (test.want == "") {
				t.Errorf("refusal: got %q, want one only where no version can be read", refusal)
			}
		})
	}
}

// serve has the definition of ServiceEntries serve these versions, and store the first of them.
func (f *fixture) serve(versions ...string) {
	f.t.Helper()
	ctx, client := f.t.Context(), f.dynamic.Resource(definitionResource)
	f.do(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		raw, err := client.Get(ctx, "serviceentries.networking.istio.io", metav1.GetOptions{})
		if err != nil {
			return err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw.Object, &definition); err != nil {
			return err
		}
		for i := range definition.Spec.Versions {
			version := &definition.Spec.Versions[i]
			version.Served, version.Storage = slices.Contains(versions, version.Name), version.Name == versions[0]
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&definition)
		if err != nil {
			return err
		}
		_, err = client.Update(ctx, &unstructured.Unstructured{Object: content}, metav1.UpdateOptions{})
		return err
	}))
	for _, version := range istioVersions {
		served := slices.Contains(versions, version)
		f.eventually(fmt.Sprintf("version %s to be served: %t", version, served), func() bool {
			_, err := f.entriesIn(version).List(ctx, metav1.ListOptions{})
			return (err == nil) == served
		})
	}
}

func (f *fixture) entriesIn(version string) interface {
	List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error)
	Create(context.Context, *unstructured.Unstructured, metav1.CreateOptions, ...string) (*unstructured.Unstructured, error)
	Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*unstructured.Unstructured, error)
	Delete(context.Context, string, metav1.DeleteOptions, ...string) error
} {
	resource := schema.GroupVersionResource{Group: istioGroup, Version: version, Resource: "serviceentries"}
	return f.dynamic.Resource(resource).Namespace(f.namespace)
}

func (f *fixture) createEntryIn(version, name, host, address string) {
	f.t.Helper()
	_, err := f.entriesIn(version).Create(f.t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": istioGroup + "/" + version, "kind": "ServiceEntry", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"hosts": []any{host}, "addresses": []any{address}, "resolution": "DNS",
			"ports": []any{map[string]any{"number": int64(443), "name": "https", "protocol": "TLS"}}},
	}}, metav1.CreateOptions{})
	f.do(err)
}

// TestAnUpgradeOfIstioTakesNoNameAway: an old Istio serves v1alpha3 only; the next one serves v1 too, and the
// one after that no longer serves v1alpha3. Its names do not even flicker, and follow changes all the time.
func TestAnUpgradeOfIstioTakesNoNameAway(t *testing.T) {
	f := newFixture(t)
	f.do(f.plane.InstallIstioCRDs(t.Context()))
	t.Cleanup(func() {
		if err := f.plane.RemoveIstioCRDs(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f.serve("v1alpha3")
	f.createEntryIn("v1alpha3", "a", "a.example.com", "192.0.2.1")
	f.createEntryIn("v1alpha3", "b", "b.example.com", "192.0.2.2")

	f.follow(f.shippedRole())
	f.awaitReady()
	if got, want := f.names(), []string{"a.example.com 192.0.2.1", "b.example.com 192.0.2.2"}; !slices.Equal(got, want) {
		t.Fatalf("names when synced: got %q, want %q", got, want)
	}
	stays := []string{"a.example.com 192.0.2.1", "b.example.com 192.0.2.2"}
	former := "v1alpha3"
	for i, step := range []struct{ follows, serves string }{
		{"v1", "v1alpha3 v1"},
		{"v1", "v1"},
		{"v1beta1", "v1beta1 v1alpha3"}, // A rollback.
		{"v1alpha3", "v1alpha3"},
		{"v1", "v1 v1beta1 v1alpha3"},
	} {
		before := f.registry.Revision()
		f.serve(strings.Fields(step.serves)...)
		if step.follows != former {
			f.expectLog("a kind is read in another version", "former="+former+" version="+step.follows)
			former = step.follows
		}
		// Everything that reaches a watcher has a revision.
		if got := f.registry.Revision(); got != before {
			t.Errorf("serving %s: got revision %d, want still %d: nobody is to be told anything", step.serves, got, before)
		}
		name := fmt.Sprintf("n%d", i)
		f.createEntryIn(step.follows, name, name+".example.com", "192.0.2.9")
		f.expect(append(slices.Clone(stays), name+".example.com 192.0.2.9")...)
		_, err := f.entriesIn(step.follows).Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec":{"addresses":["192.0.2.8"]}}`), metav1.PatchOptions{})
		f.do(err)
		f.expect(append(slices.Clone(stays), name+".example.com 192.0.2.8")...)
		f.do(f.entriesIn(step.follows).Delete(t.Context(), name, metav1.DeleteOptions{}))
		f.expect(stays...)
		f.eventually("the source to be healthy", f.healthy)
	}
	if strings.Contains(f.log.String(), "no longer following") {
		t.Error("a kind was given up during an upgrade")
	}
}
