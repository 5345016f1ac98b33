package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"

	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/test/controlplane"
)

var meshName = types.NamespacedName{Namespace: "istio-system", Name: "istio"}

// meshFixture is a fixture with Istio's namespace, and what the source says of the mesh configuration.
type meshFixture struct {
	*fixture
	mu   sync.Mutex
	told []source.Mesh
}

func newMeshFixture(t *testing.T) *meshFixture {
	t.Helper()
	f := &meshFixture{fixture: newFixture(t)}
	f.mesh = source.MeshOptions{ConfigMap: meshName, Changed: func(m source.Mesh) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, m)
	}}
	_, err := f.admin.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: meshName.Namespace}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		f.do(err)
	}
	t.Cleanup(func() { f.removeMesh(context.Background()) })
	return f
}

// latest is what was told last, and how often anything was.
func (f *meshFixture) latest() (source.Mesh, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.told) == 0 {
		return source.Mesh{}, 0
	}
	return f.told[len(f.told)-1], len(f.told)
}

func (f *meshFixture) writeMesh(data map[string]string) {
	f.t.Helper()
	client := f.admin.CoreV1().ConfigMaps(meshName.Namespace)
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: meshName.Name}, Data: data}
	_, err := client.Update(f.t.Context(), configMap, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = client.Create(f.t.Context(), configMap, metav1.CreateOptions{})
	}
	f.do(err)
}

func (f *meshFixture) removeMesh(ctx context.Context) {
	f.t.Helper()
	err := f.admin.CoreV1().ConfigMaps(meshName.Namespace).Delete(ctx, meshName.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		f.t.Error(err)
	}
}

func (f *meshFixture) labelNamespace(labels string) {
	f.t.Helper()
	_, err := f.admin.CoreV1().Namespaces().Patch(f.t.Context(), f.namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":`+labels+`}}`), metav1.PatchOptions{})
	f.do(err)
}

// shippedRoles installs both files of deploy/kubernetes and is the service account's configuration.
func (f *meshFixture) shippedRoles() *rest.Config {
	f.t.Helper()
	config := f.shippedRole()
	root, err := controlplane.RepositoryRoot()
	f.do(err)
	content, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", "rbac-istio-mesh-config.yaml"))
	f.do(err)
	var role rbacv1.Role
	var binding rbacv1.RoleBinding
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), len(content))
	f.do(decoder.Decode(&role))
	f.do(decoder.Decode(&binding))
	if err := decoder.Decode(&role); !errors.Is(err, io.EOF) || role.Kind != "Role" || binding.Kind != "RoleBinding" {
		f.t.Fatalf("rbac-istio-mesh-config.yaml: got a %s, a %s and %v, want a Role, a RoleBinding and no more", role.Kind, binding.Kind, err)
	}
	_, err = f.admin.RbacV1().Roles(role.Namespace).Create(f.t.Context(), &role, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		f.do(err)
	}
	_, err = f.admin.RbacV1().RoleBindings(role.Namespace).Create(f.t.Context(), &binding, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		f.do(err)
	}
	f.t.Cleanup(func() {
		ctx := context.Background()
		f.do(f.admin.RbacV1().RoleBindings(role.Namespace).Delete(ctx, binding.Name, metav1.DeleteOptions{}))
		f.do(f.admin.RbacV1().Roles(role.Namespace).Delete(ctx, role.Name, metav1.DeleteOptions{}))
	})
	for _, subject := range binding.Subjects {
		f.awaitAllowed("system:serviceaccount:"+subject.Namespace+":"+subject.Name, role.Namespace, role.Rules)
	}
	return config
}

// seenBy are the hosts of the test's namespace that another namespace sees.
func (f *meshFixture) seenBy(namespace string) []string {
	var keys []string
	for _, entry := range f.registry.Content(namespace).Entries {
		if entry.Object.Namespace == f.namespace {
			keys = append(keys, entry.Object.Kind+" "+entry.Object.Name)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// expectSeen waits until the own namespace and another one see these objects of the test's namespace.
func (f *meshFixture) expectSeen(own, other string) {
	f.t.Helper()
	got := ""
	want := own + " | " + other
	f.eventuallyShow("own namespace and another to see "+want, func() (bool, string) {
		got = strings.Join(f.seenBy(f.namespace), ", ") + " | " + strings.Join(f.seenBy("elsewhere"), ", ")
		return got == want, got
	})
}

func (f *meshFixture) eventuallyShow(what string, holds func() (bool, string)) {
	f.t.Helper()
	shown := ""
	defer func() {
		if f.t.Failed() {
			f.t.Logf("last seen: %s", shown)
		}
	}()
	f.eventually(what, func() (is bool) {
		is, shown = holds()
		return is
	})
}

func (f *meshFixture) expectState(state string) {
	f.t.Helper()
	want := "# HELP meshvm_syncer_mesh_config State of Istio's mesh configuration: 1 for read, missing (the flags hold) or broken (what was read last holds).\n# TYPE meshvm_syncer_mesh_config gauge\n"
	for _, each := range []string{"broken", "missing", "read"} {
		want += `meshvm_syncer_mesh_config{state="` + each + `"} ` + map[bool]string{true: "1", false: "0"}[each == state] + "\n"
	}
	f.eventually("the metric of the mesh configuration to say "+state, func() bool {
		return testutil.GatherAndCompare(f.metrics, strings.NewReader(want), "meshvm_syncer_mesh_config") == nil
	})
}

// TestTheMeshConfigurationComesChangesBreaksAndGoes on a real API server, with the roles that are shipped.
func TestTheMeshConfigurationComesChangesBreaksAndGoes(t *testing.T) {
	f := newMeshFixture(t)
	f.do(f.plane.InstallIstioCRDs(t.Context()))
	t.Cleanup(func() {
		if err := f.plane.RemoveIstioCRDs(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f.createService("a", "10.96.7.1")
	f.createEntry("e", "e.example.com", "192.0.2.1")
	f.follow(f.shippedRoles())
	f.awaitReady()
	f.expectSeen("Service a, ServiceEntry e", "Service a, ServiceEntry e")
	f.expectLog("level=WARN", "the mesh configuration is not there", "configmap=istio-system/istio")
	f.expectState("missing")
	if mesh, times := f.latest(); times != 1 || !mesh.Equal(source.NoMesh()) {
		t.Errorf("told: got %+v, %d times, want once that there is none", mesh, times)
	}

	f.writeMesh(map[string]string{"mesh": "defaultServiceExportTo: ['.']\ndefaultServiceEntryExportTo: ['~']\ntrustDomain: td\ntrustDomainAliases: [old]\nrootNamespace: root"})
	f.expectSeen("Service a", "")
	f.expectState("read")
	mesh, _ := f.latest()
	if got, want := strings.Join(mesh.TrustDomains(), " ")+" "+mesh.RootNamespace, "td old root"; got != want {
		t.Errorf("told: got %q, want %q", got, want)
	}

	f.writeMesh(map[string]string{"mesh": "defaultServiceExportTo: ['*']\ndefaultServiceEntryExportTo: ['not a namespace']"})
	f.expectLog("level=ERROR", "cannot read the mesh configuration", "configmap=istio-system/istio", "not a namespace")
	f.expectState("broken")
	f.createService("b", "10.96.7.2")
	f.expectSeen("Service a, Service b", "")

	f.writeMesh(map[string]string{"mesh": "defaultServiceExportTo: ['.']\ndefaultServiceEntryExportTo: ['*']\ntrustDomain: td"})
	f.expectSeen("Service a, Service b, ServiceEntry e", "ServiceEntry e")

	// How far ServiceEntries are seen goes by the labels of their namespace, as they are.
	f.writeMesh(map[string]string{"mesh": "defaultServiceExportTo: ['*']\nserviceEntryVisibility:\n  applyToSidecars: true\n  policies:\n" +
		"  - {visibility: NAMESPACE, matchingRules: [{namespaceSelector: {matchLabels: {tenant: 'yes'}}}]}\n"})
	f.expectSeen("Service a, Service b, ServiceEntry e", "Service a, Service b, ServiceEntry e")
	f.labelNamespace(`{"tenant":"yes"}`)
	f.expectSeen("Service a, Service b, ServiceEntry e", "Service a, Service b")
	f.labelNamespace(`{"tenant":null}`)
	f.expectSeen("Service a, Service b, ServiceEntry e", "Service a, Service b, ServiceEntry e")

	f.removeMesh(t.Context())
	f.expectSeen("Service a, Service b, ServiceEntry e", "Service a, Service b, ServiceEntry e")
	f.expectState("missing")
	if mesh, times := f.latest(); times != 5 || !mesh.Equal(source.NoMesh()) {
		t.Errorf("told: got %+v, %d times, want five times, at last that there is none", mesh, times)
	}
	if strings.Contains(f.log.String(), "forbids") {
		t.Error("the shipped roles do not suffice")
	}
}

// TestWhatTheMeshConfigurationHidesIsNeverSeen: it is there at the start, and holds before anything else.
func TestWhatTheMeshConfigurationHidesIsNeverSeen(t *testing.T) {
	f := newMeshFixture(t)
	f.createService("a", "10.96.8.1")
	f.writeMesh(map[string]string{"mesh": "defaultServiceExportTo: ['~']\ntrustDomain: td"})
	f.follow(f.shippedRoles())
	f.awaitReady()
	if got := f.registry.Revision(); got != 1 {
		t.Errorf("revisions of the initial state: got %d, want 1", got)
	}
	if got := append(f.seenBy(f.namespace), f.seenBy("elsewhere")...); len(got) != 0 {
		t.Errorf("seen when synced: got %q, want nothing", got)
	}
	if mesh, times := f.latest(); times != 1 || mesh.TrustDomain != "td" {
		t.Errorf("told when synced: got %+v, %d times, want the trust domain td once", mesh, times)
	}
}

// TestAMeshConfigurationThatIsForbidden is named, and nobody is served by a guess.
func TestAMeshConfigurationThatIsForbidden(t *testing.T) {
	f := newMeshFixture(t)
	f.follow(f.shippedRole())
	f.expectLog("level=ERROR", "forbids", "verb=list", `resource="configmaps istio-system/istio"`)
	if f.ready() {
		t.Error("the registry is ready without having seen the mesh configuration")
	}
}
