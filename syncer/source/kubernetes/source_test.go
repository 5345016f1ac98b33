package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/transcript"
)

var cluster = controlplane.NewShared()

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// patience bounds what a test waits for. It is long for a loaded machine, and no test waits it out
// when all is well.
const patience = 60 * time.Second

var serviceEntries = kinds[len(kinds)-1].resource

// fixture is a source that follows the control plane with the role that is shipped, and clients of
// the administrator.
type fixture struct {
	t         *testing.T
	plane     *controlplane.ControlPlane
	admin     *clientset.Clientset
	dynamic   dynamic.Interface
	namespace string
	guard     registry.GuardOptions
	mesh      source.MeshOptions
	sidecars  *source.Sidecars
	registry  *registry.Registry
	metrics   *prometheus.Registry
	log       *transcript.Transcript
	stop      func()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	plane := cluster.ControlPlane(t)
	f := &fixture{t: t, plane: plane, log: &transcript.Transcript{}, metrics: prometheus.NewRegistry()}
	var err error
	f.admin, err = clientset.NewForConfig(plane.RESTConfig())
	f.do(err)
	f.dynamic, err = dynamic.NewForConfig(plane.RESTConfig())
	f.do(err)
	f.namespace = plane.Namespace(t)
	return f
}

func (f *fixture) do(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// shippedRole installs deploy/kubernetes/rbac.yaml and is the service account's configuration, once the API server knows of the role.
func (f *fixture) shippedRole() *rest.Config {
	f.t.Helper()
	ctx := f.t.Context()
	root, err := controlplane.RepositoryRoot()
	f.do(err)
	content, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", "rbac.yaml"))
	f.do(err)
	var account corev1.ServiceAccount
	var rules []rbacv1.PolicyRule
	documents := utilyaml.NewDocumentDecoder(readCloser{bytes.NewReader(content)})
	for buffer := make([]byte, len(content)+1); ; {
		n, err := documents.Read(buffer)
		if err != nil {
			break
		}
		var meta metav1.TypeMeta
		f.do(yaml.Unmarshal(buffer[:n], &meta))
		switch meta.Kind {
		case "ServiceAccount":
			f.do(yaml.UnmarshalStrict(buffer[:n], &account))
			_, err = f.admin.CoreV1().Namespaces().Create(ctx,
				&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: account.Namespace}}, metav1.CreateOptions{})
		case "ClusterRole":
			var role rbacv1.ClusterRole
			f.do(yaml.UnmarshalStrict(buffer[:n], &role))
			rules = append(rules, role.Rules...)
			_, err = f.admin.RbacV1().ClusterRoles().Create(ctx, &role, metav1.CreateOptions{})
		case "ClusterRoleBinding":
			var binding rbacv1.ClusterRoleBinding
			f.do(yaml.UnmarshalStrict(buffer[:n], &binding))
			_, err = f.admin.RbacV1().ClusterRoleBindings().Create(ctx, &binding, metav1.CreateOptions{})
		default:
			f.t.Fatalf("rbac.yaml: got a %s, want a ServiceAccount, a ClusterRole and a ClusterRoleBinding", meta.Kind)
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			f.t.Fatal(err)
		}
	}
	kubeconfig, err := f.plane.KubeconfigForServiceAccount(ctx, account.Namespace, account.Name)
	f.do(err)
	config, err := RESTConfig(kubeconfig)
	f.do(err)
	f.awaitAllowed("system:serviceaccount:"+account.Namespace+":"+account.Name, metav1.NamespaceAll, rules)
	return config
}

// awaitAllowed waits until the API server, whose authorizer hears of roles as any watcher does, allows a user all that the rules
// grant: a test that nothing is forbidden would else fail by the API server's delay.
func (f *fixture) awaitAllowed(user, namespace string, rules []rbacv1.PolicyRule) {
	f.t.Helper()
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						attributes := authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: group, Resource: resource, Name: name}
						f.eventually(fmt.Sprintf("%s to be allowed %+v", user, attributes), func() bool {
							review, err := f.admin.AuthorizationV1().SubjectAccessReviews().Create(f.t.Context(), &authorizationv1.SubjectAccessReview{
								Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &attributes},
							}, metav1.CreateOptions{})
							f.do(err)
							return review.Status.Allowed
						})
					}
				}
			}
		}
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// follow runs a source until the test ends.
func (f *fixture) follow(config *rest.Config) {
	f.t.Helper()
	f.registry = registry.New(registry.Options{Guard: f.guard, Scopes: f.sidecars != nil})
	s, err := New(Config{
		REST:        config,
		Registry:    f.registry.AddSource("kubernetes"),
		Mesh:        f.mesh,
		Translation: source.Options{Sidecars: f.sidecars},
		Version:     "1.2.3",
		Log:         slog.New(slog.NewTextHandler(f.log, nil)),
		Metrics:     f.metrics,
		Probe:       500 * time.Millisecond,
	})
	f.do(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				f.t.Errorf("Run: got %v, want no error", err)
			}
		case <-time.After(patience):
			f.t.Error("Run does not return")
		}
	})
	f.t.Cleanup(f.stop)
	f.t.Cleanup(func() {
		if f.t.Failed() {
			f.t.Logf("log of the source:\n%s", f.log)
		}
	})
}

func (f *fixture) ready() bool {
	select {
	case <-f.registry.Ready():
		return true
	default:
		return false
	}
}

func (f *fixture) awaitReady() {
	f.t.Helper()
	f.eventually("the registry to be ready", f.ready)
}

func (f *fixture) eventually(what string, holds func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ; !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (f *fixture) expectLog(parts ...string) {
	f.t.Helper()
	f.eventually("a log line with "+strings.Join(parts, ", "), func() bool {
		for line := range strings.SplitSeq(f.log.String(), "\n") {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return true
			}
		}
		return false
	})
}

func (f *fixture) healthy() bool {
	return f.registry.CurrentAt().After(time.Now().Add(-10 * time.Millisecond))
}

// names are what objects of the test's namespace yield: hosts with their addresses, and slices.
func (f *fixture) names() []string {
	f.t.Helper()
	var lines []string
	for _, entry := range f.registry.Content(f.namespace).Entries {
		if entry.Object.Namespace != f.namespace {
			continue
		}
		var body registryv1.Body
		f.do(proto.Unmarshal(entry.Body, &body))
		var line string
		var encoded [][]byte
		if service := body.GetService(); service != nil {
			line, encoded = strings.TrimSuffix(service.GetHost(), "."+f.namespace+".svc.cluster.local"), service.GetAddresses()
		} else {
			line = "slice of " + body.GetEndpointSlice().GetService()
			for _, endpoint := range body.GetEndpointSlice().GetEndpoints() {
				encoded = append(encoded, endpoint.GetAddresses()...)
			}
		}
		for _, bytes := range encoded {
			address, _ := netip.AddrFromSlice(bytes)
			line += " " + address.String()
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func (f *fixture) expect(want ...string) {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		revision := f.registry.Revision()
		got := f.names()
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-f.registry.Changed(revision):
		case <-deadline:
			f.t.Fatalf("names: got %q, want %q", got, want)
		}
	}
}

func (f *fixture) createService(name, clusterIP string) {
	f.t.Helper()
	_, err := f.admin.CoreV1().Services(f.namespace).Create(f.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: clusterIP, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	f.do(err)
}

func (f *fixture) createSlice(name, service, address string, labels ...string) {
	f.t.Helper()
	all := map[string]string{discoveryv1.LabelServiceName: service}
	for _, label := range labels {
		all[label] = ""
	}
	_, err := f.admin.DiscoveryV1().EndpointSlices(f.namespace).Create(f.t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: all},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}, metav1.CreateOptions{})
	f.do(err)
}

func (f *fixture) createEntry(name, host, address string) {
	f.t.Helper()
	spec := map[string]any{"hosts": []any{host}, "resolution": "DNS", "ports": []any{map[string]any{"number": int64(443), "name": "https", "protocol": "TLS"}}}
	if address != "" {
		spec["addresses"] = []any{address}
	}
	_, err := f.dynamic.Resource(serviceEntries).Namespace(f.namespace).Create(f.t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": map[string]any{"name": name}, "spec": spec,
	}}, metav1.CreateOptions{})
	f.do(err)
}

func (f *fixture) patchEntryStatus(name, status string) {
	f.t.Helper()
	_, err := f.dynamic.Resource(serviceEntries).Namespace(f.namespace).
		Patch(f.t.Context(), name, types.MergePatchType, []byte(`{"status":`+status+`}`), metav1.PatchOptions{}, "status")
	f.do(err)
}

func TestFollowsAClusterWithAndWithoutIstio(t *testing.T) {
	f := newFixture(t)
	f.createService("before", "10.96.1.1")
	f.createService("headless", corev1.ClusterIPNone)
	f.createSlice("headless-1", "headless", "10.1.0.1", corev1.IsHeadlessService)
	f.createSlice("plain-1", "before", "10.1.0.9") // Never asked for.

	f.follow(f.shippedRole())
	f.awaitReady()
	if got, want := f.names(), []string{"before 10.96.1.1", "headless", "slice of headless 10.1.0.1"}; !slices.Equal(got, want) {
		t.Errorf("names when synced: got %q, want %q", got, want)
	}
	if !f.registry.NamespaceExists(f.namespace) {
		t.Errorf("namespace %s: got none, want it to exist", f.namespace)
	}
	if got := f.registry.Revision(); got != 1 {
		t.Errorf("revisions of the initial state: got %d, want 1", got)
	}

	f.createService("later", "10.96.1.2")
	f.expect("before 10.96.1.1", "headless", "later 10.96.1.2", "slice of headless 10.1.0.1")
	f.createSlice("headless-2", "headless", "10.1.0.2", corev1.IsHeadlessService)
	f.expect("before 10.96.1.1", "headless", "later 10.96.1.2", "slice of headless 10.1.0.1", "slice of headless 10.1.0.2")
	_, err := f.admin.CoreV1().Services(f.namespace).Patch(t.Context(), "headless", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"networking.istio.io/exportTo":"~"}}}`), metav1.PatchOptions{})
	f.do(err)
	f.expect("before 10.96.1.1", "later 10.96.1.2")
	f.do(f.admin.CoreV1().Services(f.namespace).Delete(t.Context(), "before", metav1.DeleteOptions{}))
	f.expect("later 10.96.1.2")

	for range 2 { // Comes, goes, and comes back.
		f.do(f.plane.InstallIstioCRDs(t.Context()))
		f.createEntry("literal", "literal.example.com", "192.0.2.1")
		f.createEntry("vip", "vip.example.com", "")
		f.expect("later 10.96.1.2", "literal.example.com 192.0.2.1", "vip.example.com")
		f.patchEntryStatus("vip", `{"addresses":[{"host":"vip.example.com","value":"240.240.0.1"},{"host":"vip.example.com","value":"2001:2::1"}]}`)
		f.expect("later 10.96.1.2", "literal.example.com 192.0.2.1", "vip.example.com 240.240.0.1 2001:2::1")

		f.patchEntryStatus("vip", `{"addresses":"nonsense"}`)
		f.expectLog("level=ERROR", "ServiceEntry "+f.namespace+"/vip", "field=status", "last good state stays")
		f.createEntry("third", "third.example.com", "192.0.2.3")
		f.expect("later 10.96.1.2", "literal.example.com 192.0.2.1", "third.example.com 192.0.2.3", "vip.example.com 240.240.0.1 2001:2::1")

		f.do(f.plane.RemoveIstioCRDs(t.Context()))
		f.expect("later 10.96.1.2")
		f.eventually("the source to be healthy without Istio", f.healthy)
	}
	want := "# HELP meshvm_syncer_kubernetes_healthy Whether the API server can be reached and serves every kind that is followed: 1 or 0.\n" +
		"# TYPE meshvm_syncer_kubernetes_healthy gauge\nmeshvm_syncer_kubernetes_healthy 1\n" +
		"# HELP meshvm_syncer_kubernetes_problems Present problems of objects in the API server.\n" +
		"# TYPE meshvm_syncer_kubernetes_problems gauge\nmeshvm_syncer_kubernetes_problems 0\n"
	f.eventually("metrics:\n"+want, func() bool {
		return testutil.GatherAndCompare(f.metrics, strings.NewReader(want), "meshvm_syncer_kubernetes_healthy", "meshvm_syncer_kubernetes_problems") == nil
	})
	if strings.Contains(f.log.String(), "forbids") {
		t.Error("the shipped role does not suffice")
	}
}

func TestIstioThatIsThereAtStartIsPartOfTheInitialState(t *testing.T) {
	f := newFixture(t)
	f.do(f.plane.InstallIstioCRDs(t.Context()))
	t.Cleanup(func() {
		if err := f.plane.RemoveIstioCRDs(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f.createEntry("literal", "literal.example.com", "192.0.2.1")
	f.follow(f.shippedRole())
	f.awaitReady()
	if got, want := f.names(), []string{"literal.example.com 192.0.2.1"}; !slices.Equal(got, want) {
		t.Errorf("names when synced: got %q, want %q", got, want)
	}
}

func TestAnAPIServerThatGoesTakesNothingAway(t *testing.T) {
	f := newFixture(t)
	f.createService("a", "10.96.2.1")
	f.follow(f.shippedRole())
	f.awaitReady()
	f.expect("a 10.96.2.1")
	f.eventually("the source to be healthy", f.healthy)

	f.do(f.plane.StopAPIServer())
	stopped := true
	defer func() {
		if stopped {
			f.do(f.plane.StartAPIServer(context.Background()))
		}
	}()
	f.eventually("the source to be unhealthy", func() bool { return !f.healthy() })
	f.expectLog("level=ERROR", "cannot reach the API server", "server=127.0.0.1:", "refused")
	f.expect("a 10.96.2.1")

	f.do(f.plane.StartAPIServer(t.Context()))
	stopped = false
	f.eventually("the source to be healthy again", f.healthy)
	f.expectLog("level=INFO", "the API server is back")
	f.createService("b", "10.96.2.2")
	f.expect("a 10.96.2.1", "b 10.96.2.2")
	if n := strings.Count(f.log.String(), "cannot reach the API server"); n > 2 {
		t.Errorf("an outage was logged %d times, want it said once or, when it lasts, every half minute", n)
	}
}

func TestAnAPIServerThatIsNotThereAtStart(t *testing.T) {
	f := newFixture(t)
	f.createService("a", "10.96.3.1")
	config := f.shippedRole()
	f.do(f.plane.StopAPIServer())
	f.follow(config)
	f.expectLog("level=ERROR", "cannot reach the API server", "server=127.0.0.1:")
	if f.ready() {
		t.Error("the registry is ready without having seen an API server")
	}
	f.do(f.plane.StartAPIServer(t.Context()))
	f.awaitReady()
	f.expect("a 10.96.3.1")
}

func TestWhatIsForbiddenIsNamed(t *testing.T) {
	f := newFixture(t)
	config, err := f.plane.RESTConfigFor(controlplane.SyncerUser)
	f.do(err)
	f.follow(config)
	for _, resource := range []string{"services", "namespaces", "endpointslices.discovery.k8s.io", "customresourcedefinitions.apiextensions.k8s.io"} {
		f.expectLog("level=ERROR", "forbids", "verb=list", "resource="+resource)
	}
	f.eventually("the source to be unhealthy", func() bool { return !f.healthy() })
	if f.ready() {
		t.Error("the registry is ready without having seen anything")
	}
}

// recorder notes what requests ask for.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	seen []string
}

func (r *recorder) WrappedRoundTripper() http.RoundTripper { return r.next }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.seen = append(r.seen, fmt.Sprintf("%s?%s accept=%s agent=%s", request.URL.Path, request.URL.RawQuery, request.Header.Get("Accept"), request.Header.Get("User-Agent")))
	r.mu.Unlock()
	return r.next.RoundTrip(request)
}

// recorded is a configuration whose requests are noted.
func (f *fixture) recorded(config *rest.Config) (*rest.Config, *recorder) {
	recorder := &recorder{}
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		recorder.next = next
		return recorder
	}
	return config, recorder
}

func TestRequestsAreThrifty(t *testing.T) {
	f := newFixture(t)
	config, recorder := f.recorded(f.shippedRole())
	f.follow(config)
	f.awaitReady()
	f.stop()
	recorder.mu.Lock()
	defer recorder.mu.Unlock()
	for path, wants := range map[string][]string{
		"/api/v1/services?":   {"accept=application/vnd.kubernetes.protobuf", "agent=meshvm-syncer/1.2.3"},
		"/api/v1/namespaces?": {"accept=application/vnd.kubernetes.protobuf"},
		"/apis/discovery.k8s.io/v1/endpointslices?": {
			"accept=application/vnd.kubernetes.protobuf", "labelSelector=service.kubernetes.io%2Fheadless"},
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions?": {
			"as=PartialObjectMetadata", "fieldSelector=metadata.name%3D", ".networking.istio.io&"},
	} {
		found := false
		for _, seen := range recorder.seen {
			if !strings.HasPrefix(seen, path) {
				continue
			}
			found = true
			for _, want := range wants {
				if !strings.Contains(seen, want) {
					t.Errorf("request %s: want %s", seen, want)
				}
			}
		}
		if !found {
			t.Errorf("no request of %s", path)
		}
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	f := newFixture(t)
	config := f.shippedRole()
	before := goleak.IgnoreCurrent()
	f.follow(config)
	f.awaitReady()
	f.stop()
	goleak.VerifyNone(t, before)
}

func TestRunStopsWhileTheServerIsNotThere(t *testing.T) {
	before := goleak.IgnoreCurrent()
	f := &fixture{t: t, log: &transcript.Transcript{}, metrics: prometheus.NewRegistry()}
	f.follow(&rest.Config{Host: "https://127.0.0.1:1"})
	f.expectLog("cannot reach the API server", "server=127.0.0.1:1")
	f.stop()
	goleak.VerifyNone(t, before)
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	into := registry.New(registry.Options{}).AddSource("kubernetes")
	taken := prometheus.NewRegistry()
	if _, err := newMetrics(taken); err != nil {
		t.Fatal(err)
	}
	fine := &rest.Config{Host: "https://127.0.0.1:1"}
	for _, test := range []struct {
		name, want string
		config     Config
	}{
		{"no registry", "registry", Config{REST: fine}},
		{"no API server", "API server", Config{Registry: into}},
		{"an address that is none", "address of the API server", Config{REST: &rest.Config{Host: "https://%"}, Registry: into}},
		{"a certificate that is not there", "/no/such/ca", Config{REST: &rest.Config{Host: "https://127.0.0.1:1", TLSClientConfig: rest.TLSClientConfig{CAFile: "/no/such/ca"}}, Registry: into}},
		{"a cluster domain that is none", "cluster domain", Config{REST: fine, Registry: into, Translation: source.Options{ClusterDomain: "a..b"}}},
		{"metrics that are there already", "register metrics", Config{REST: fine, Registry: into, Metrics: taken}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := New(test.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: got %v, want an error that names %s", err, test.want)
			}
		})
	}
}

func TestRESTConfigNamesWhatIsWrong(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct{ name, kubeconfig, want string }{
		{"no kubeconfig and no cluster", "", "KUBERNETES_SERVICE_HOST"},
		{"a kubeconfig that is missing", filepath.Join(dir, "missing"), "missing"},
		{"a kubeconfig that does not parse", write("broken", "a: b: c"), "broken"},
		{"a kubeconfig without cluster", write("empty", "apiVersion: v1\nkind: Config\n"), "empty"},
		{"a context that is not there", write("context", "apiVersion: v1\nkind: Config\ncurrent-context: nowhere\n"), "nowhere"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := RESTConfig(test.kubeconfig); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("RESTConfig(%q): got %v, want an error that names %s", test.kubeconfig, err, test.want)
			}
		})
	}
}
