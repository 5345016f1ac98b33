package source

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// renderMesh writes a configuration in one line.
func renderMesh(m Mesh) string {
	return fmt.Sprintf("services %q entries %q trust %q root %s", m.Exports.Service, m.Exports.ServiceEntry, m.TrustDomains(), m.RootNamespace)
}

func TestParseMesh(t *testing.T) {
	const nothing = `services [] entries [] trust ["cluster.local"] root istio-system`
	for _, test := range []struct{ name, text, want string }{
		{"nothing, so what Istio takes then", "", nothing},
		{"an empty object", "{}", nothing},
		{"a comment", "# none\n", nothing},
		{"as Istio's chart writes it", `
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}
defaultProviders:
  metrics: [prometheus]
enablePrometheusMerge: true
rootNamespace: istio-system
trustDomain: cluster.local
`, nothing},
		{"one default for both, as in Istio", `defaultServiceExportTo: ["."]`, `services ["."] entries ["."] trust ["cluster.local"] root istio-system`},
		{"a default of each", "defaultServiceExportTo: ['*']\ndefaultServiceEntryExportTo: ['~']", `services ["*"] entries ["~"] trust ["cluster.local"] root istio-system`},
		{"one of ServiceEntries only", "defaultServiceEntryExportTo: [., infra]", `services [] entries ["." "infra"] trust ["cluster.local"] root istio-system`},
		{"an empty default", "defaultServiceExportTo: []", nothing},
		{"trust domains", "trustDomain: td.example.com\ntrustDomainAliases: [old, cluster.local]", `services [] entries [] trust ["td.example.com" "cluster.local" "old"] root istio-system`},
		{"a trust domain in capitals", "trustDomain: TD", `services [] entries [] trust ["TD"] root istio-system`},
		{"a root namespace", "rootNamespace: mesh", `services [] entries [] trust ["cluster.local"] root mesh`},
		{"no root namespace", "rootNamespace: ''", `services [] entries [] trust ["cluster.local"] root `},
		{"null, which is nothing", "trustDomain: null\ntrustDomainAliases: null\nrootNamespace: null\ndefaultServiceExportTo: null\ndefaultServiceEntryExportTo: null", nothing},
		{"an alias twice", "trustDomainAliases: [b, a, b]", `services [] entries [] trust ["cluster.local" "a" "b"] root istio-system`},
		{"names as protobuf has them", "trust_domain: td\nroot_namespace: mesh", `services [] entries [] trust ["td"] root mesh`},
		{"JSON", `{"trustDomain": "td"}`, `services [] entries [] trust ["td"] root istio-system`},
		{"fields of a newer Istio", "trustDomain: td\nnovelty: {deep: [1, 2]}\ndefaultConfig: {novelty: x}", `services [] entries [] trust ["td"] root istio-system`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseMesh([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := renderMesh(got); got != test.want {
				t.Errorf("configuration:\n got  %s\n want %s", got, test.want)
			}
		})
	}
}

func TestParseMeshNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"no YAML", "trustDomain: td\nrootNamespace: a: b", []string{"yaml: line 2"}},
		{"a list", "[a]", []string{"unexpected token ["}},
		{"a word", "mesh", []string{"unexpected token"}},
		{"a value of another type", "trustDomain: {a: b}", []string{"trustDomain"}},
		{"a default of another type", "defaultServiceEntryExportTo: {a: b}", []string{"defaultServiceEntryExportTo"}},
		{"a default that is no namespace", "defaultServiceExportTo: [not a namespace]", []string{"default of a Service", "not a namespace"}},
		{"a default that contradicts itself", "defaultServiceEntryExportTo: ['~', '*']", []string{"default of a ServiceEntry", "~ stands alone"}},
		{"a trust domain that is none", "trustDomain: spiffe://td/", []string{`trust domain "spiffe://td/"`, `it contains ':'`}},
		{"a trust domain that is empty", "trustDomain: ''", []string{`trust domain ""`, "0 characters"}},
		{"an alias that is none", "trustDomainAliases: ['*']", []string{`trust domain "*"`}},
		{"an alias that is empty", "trustDomainAliases: ['']", []string{`trust domain ""`, "0 characters"}},
		{"a root namespace that is none", "rootNamespace: a.b", []string{`rootNamespace "a.b"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseMesh([]byte(test.text))
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error: got %v, want one with %q", err, want)
				}
			}
		})
	}
}

// FuzzParseMesh: whatever somebody writes, what is taken of it makes sense.
func FuzzParseMesh(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "trustDomain: td\ntrustDomainAliases: [a, b]\nrootNamespace: mesh\n", "defaultServiceExportTo: ['.', a]\ndefaultServiceEntryExportTo: ['~']\n",
		"serviceEntryVisibility: {applyToSidecars: true, policies: [{visibility: NONE, matchingRules: [{namespaceSelector: {matchLabels: {a: b}}}]}]}",
		"a: &a [x, x]\nb: [*a, *a]", "defaultConfig: {proxyMetadata: {A: b}}", `{"trustDomain": "td"}`, "trustDomain: 1", "- a", "? a\n: b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		mesh, err := ParseMesh(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a word")
			}
			return
		}
		if len(mesh.TrustDomains()) == 0 {
			t.Errorf("configuration: got %+v, want a trust domain", mesh)
		}
		if _, err := newTranslator(t, Options{}).SetExports(mesh.Exports); err != nil {
			t.Errorf("SetExports: got %v, want what was parsed to be taken", err)
		}
		if again, err := ParseMesh(text); err != nil || !again.Equal(mesh) {
			t.Errorf("parsed again: got %+v and %v, want the same, %+v", again, err, mesh)
		}
	})
}

// meshFixture is a follower and what it says.
type meshFixture struct {
	*MeshFollower
	log     bytes.Buffer
	metrics *prometheus.Registry
	changes []string
}

func newMeshFixture(t *testing.T, translator *Translator) *meshFixture {
	t.Helper()
	f := &meshFixture{metrics: prometheus.NewRegistry()}
	options := MeshOptions{
		ConfigMap: types.NamespacedName{Namespace: "istio-system", Name: "istio"},
		Changed:   func(m Mesh) { f.changes = append(f.changes, renderMesh(m)) },
	}
	var err error
	if f.MeshFollower, err = NewMeshFollower(options, translator, slog.New(slog.NewTextHandler(&f.log, nil)), f.metrics); err != nil {
		t.Fatal(err)
	}
	return f
}

func meshConfigMap(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"}, Data: map[string]string{MeshKey: text}}
}

func TestTheMeshConfigurationIsFollowed(t *testing.T) {
	const (
		none  = `services [] entries [] trust [] root istio-system`
		first = `services ["."] entries ["."] trust ["td"] root mesh`
		other = `services ["*"] entries ["*"] trust ["td"] root mesh`
	)
	f := newMeshFixture(t, newTranslator(t, Options{}))
	for _, step := range []struct {
		name      string
		configMap *corev1.ConfigMap
		state     string
		told      []string
		logged    string // Empty: nothing.
		concerns  bool
	}{
		{"it is missing", nil, meshMissing, []string{none}, "level=WARN msg=\"the mesh configuration is not there", false},
		{"it is still missing", nil, meshMissing, nil, "", false},
		{"it comes", meshConfigMap("defaultServiceExportTo: ['.']\ntrustDomain: td\nrootNamespace: mesh"), meshRead, []string{first}, "msg=\"following the mesh configuration\"", true},
		{"how far ServiceEntries are seen", meshConfigMap("defaultServiceExportTo: ['.']\ntrustDomain: td\nrootNamespace: mesh\nserviceEntryVisibility: {applyToSidecars: true, defaultVisibility: NAMESPACE}"), meshRead, []string{first}, "visibility\"=\"NAMESPACE, with 0 policies", false},
		{"and no longer", meshConfigMap("defaultServiceExportTo: ['.']\ntrustDomain: td\nrootNamespace: mesh\nserviceEntryVisibility: {applyToSidecars: true}"), meshRead, []string{first}, "not limited", false},
		{"something else in it changes", meshConfigMap("defaultServiceExportTo: ['.']\ntrustDomain: td\nrootNamespace: mesh\nenableTracing: true"), meshRead, nil, "", false},
		{"it breaks", meshConfigMap("defaultServiceExportTo: ['!']"), meshBroken, nil, "level=ERROR msg=\"cannot read the mesh configuration, what was read before stays\" configmap=istio-system/istio", false},
		{"it is mended", meshConfigMap("defaultServiceExportTo: ['*']\ntrustDomain: td\nrootNamespace: mesh"), meshRead, []string{other}, "services=*", true},
		{"its key goes, which is as if it went", &corev1.ConfigMap{}, meshMissing, []string{none}, "has no key mesh", false}, // As * is the flag's default.
		{"its key comes back", meshConfigMap("defaultServiceExportTo: ['*']\ntrustDomain: td\nrootNamespace: mesh"), meshRead, []string{other}, "services=*", false},
		{"it goes", nil, meshMissing, []string{none}, "level=WARN", false}, // As * is the flag's default.
		{"it comes back broken", meshConfigMap("a: b: c"), meshBroken, nil, "yaml: mapping", false},
	} {
		f.log.Reset()
		f.changes = nil
		concerned := f.Follow(step.configMap, "")
		if concerns := concerned != nil && concerned(service()); concerns != step.concerns {
			t.Errorf("%s: a Service without exportTo is concerned: got %t, want %t", step.name, concerns, step.concerns)
		}
		if !slices.Equal(f.changes, step.told) {
			t.Errorf("%s: told %q, want %q", step.name, f.changes, step.told)
		}
		if got := f.log.String(); strings.Count(got, "\n") > 1 || (got == "") != (step.logged == "") || !strings.Contains(got, step.logged) {
			t.Errorf("%s: got log %q, want one line with %q, or none", step.name, got, step.logged)
		}
		for _, state := range []string{meshRead, meshMissing, meshBroken} {
			want := map[bool]float64{true: 1}[state == step.state]
			if got := testutil.ToFloat64(f.states.WithLabelValues(state)); got != want {
				t.Errorf("%s: metric of %s: got %v, want %v", step.name, state, got, want)
			}
		}
	}
}

// TestAConfigurationThatIsBrokenAtStart leaves the flags in force, and says so.
func TestAConfigurationThatIsBrokenAtStart(t *testing.T) {
	f := newMeshFixture(t, newTranslator(t, Options{DefaultExport: []string{"~"}}))
	f.Follow(meshConfigMap("trustDomain: [a"), "istio.yaml:3")
	if want := []string{renderMesh(NoMesh())}; !slices.Equal(f.changes, want) {
		t.Errorf("told %q, want %q", f.changes, want)
	}
	if got := f.log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "at=istio.yaml:3") {
		t.Errorf("log: got %q, want an error with the place", got)
	}
	updates, _ := f.translator.Translate(present(service()))
	if got := updates[0].Resources[0].Visibility.String(); got != "~" {
		t.Errorf("visible to: got %q, want what the flag says", got)
	}
}
