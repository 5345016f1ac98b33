package manifest

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/syncer/source"
)

// meshFile is a manifest of a ConfigMap that holds a mesh configuration.
func meshFile(namespace, name, mesh string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n  namespace: " + namespace + "\ndata:\n  mesh: |\n    " +
		strings.ReplaceAll(mesh, "\n", "\n    ") + "\n"
}

const (
	plainService = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: prod}\nspec: {clusterIP: 10.0.0.1}\n"
	plainEntry   = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: prod}\n" +
		"spec: {hosts: [e.example.com], addresses: [192.0.2.1], resolution: STATIC}\n"
)

// TestTheMeshConfigurationOfAFolder is a ConfigMap in it: it comes, changes, breaks and goes, and holds
// before anything that it hides is there.
func TestTheMeshConfigurationOfAFolder(t *testing.T) {
	var mu sync.Mutex
	var told []source.Mesh
	latest := func() (source.Mesh, int) {
		mu.Lock()
		defer mu.Unlock()
		return told[len(told)-1], len(told)
	}
	f := newMeshFixture(t, source.MeshOptions{
		ConfigMap: types.NamespacedName{Namespace: "istio-system", Name: "istio"},
		Changed: func(m source.Mesh) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, m)
		},
	},
		"service.yaml", plainService, "entry.yaml", plainEntry,
		"mesh.yaml", meshFile("istio-system", "istio", "defaultServiceExportTo: ['~']\ntrustDomain: td"),
		// Neither is ours, so neither can be wrong.
		"other.yaml", meshFile("istio-system", "istio-canary", "defaultServiceExportTo: [broken, '~']")+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: 7}\ndata: none\n",
	)
	if got := f.registry.Revision(); got != 1 {
		t.Errorf("revisions of the initial state: got %d, want 1", got)
	}
	f.expect()
	if mesh, times := latest(); times != 1 || mesh.TrustDomain != "td" {
		t.Errorf("told when synced: got %+v, %d times, want the trust domain td once", mesh, times)
	}

	f.write("mesh.yaml", meshFile("istio-system", "istio", "defaultServiceExportTo: [default]\ndefaultServiceEntryExportTo: [.]"))
	f.expect("a.prod.svc.cluster.local 10.0.0.1")

	f.write("mesh.yaml", meshFile("istio-system", "istio", "defaultServiceExportTo: ['*', '~']"))
	f.expectLog("level=ERROR", "cannot read the mesh configuration", "configmap=istio-system/istio", "at=mesh.yaml:1", "~ stands alone")
	f.write("second.yaml", strings.ReplaceAll(plainService, "name: a", "name: b"))
	f.expect("a.prod.svc.cluster.local 10.0.0.1", "b.prod.svc.cluster.local 10.0.0.1")

	f.write("mesh.yaml", meshFile("istio-system", "istio", "defaultServiceEntryExportTo: ['*']\ndefaultServiceExportTo: [.]"))
	f.expect("e.example.com 192.0.2.1")

	f.write("mesh.yaml", meshFile("istio-system", "istio", "defaultServiceExportTo: ['.']\ndefaultServiceEntryExportTo: ['*']\n"+
		"serviceEntryVisibility:\n  applyToSidecars: true\n  policies:\n  - {visibility: NAMESPACE, matchingRules: [{namespaceSelector: {matchLabels: {tenant: 'yes'}}}]}"))
	f.expectLog("msg=\"following the mesh configuration\"", "PUBLIC, with 1 policies")
	f.write("namespace.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {tenant: 'yes'}}\n")
	f.expect()
	f.write("namespace.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n")
	f.expect("e.example.com 192.0.2.1")

	f.do(os.Remove(f.path("mesh.yaml")))
	f.expectLog("level=WARN", "the mesh configuration is not there")
	f.expect("a.prod.svc.cluster.local 10.0.0.1", "b.prod.svc.cluster.local 10.0.0.1", "e.example.com 192.0.2.1")
	if mesh, times := latest(); times != 5 || !mesh.Equal(source.NoMesh()) {
		t.Errorf("told: got %+v, %d times, want five times, at last that there is none", mesh, times)
	}
}

// TestConfigMapsAreNothingWithoutTheFlag: they are passed over, as all kinds without names are.
func TestConfigMapsAreNothingWithoutTheFlag(t *testing.T) {
	found := parse("x.yaml", []byte(meshFile("istio-system", "istio", "x")+"---\n"+meshFile("istio-system", "istio", "x")))
	if len(found.objects)+len(found.faults) != 0 || !slices.Equal(found.ignored, []string{"v1 ConfigMap"}) {
		t.Errorf("parse: got %+v, want all passed over", found)
	}
}

func TestWhichConfigMapIsTheMeshConfiguration(t *testing.T) {
	of := meshKind(types.NamespacedName{Namespace: "default", Name: "istio"})
	for _, test := range []struct {
		name, content string
		found, faulty bool
	}{
		{"it", meshFile("default", "istio", "x"), true, false},
		{"it, in the default namespace", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\n", true, false},
		{"another name", meshFile("default", "istio-1", "x"), false, false},
		{"another namespace", meshFile("istio-system", "istio", "x"), false, false},
		{"another that does not decode", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: [a]\n", false, false},
		{"it, and it does not decode", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: [a]\n", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := parse("x.yaml", []byte(test.content), of)
			if (len(found.objects) == 1) != test.found || (len(found.faults) > 0) != test.faulty {
				t.Errorf("parse: got objects %v and faults %v, want one: %t and faults: %t", found.objects, found.faults, test.found, test.faulty)
			}
		})
	}
}
