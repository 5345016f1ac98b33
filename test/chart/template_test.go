//go:build chart

package chart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshvm/meshvm/test/programs"
)

func TestLint(t *testing.T) {
	for _, version := range helms {
		for _, test := range matrix {
			t.Run(version+" "+test.name, func(t *testing.T) {
				if output, err := helm(t.Context(), t.TempDir(), version, append([]string{"lint", "--strict", chartFolder()}, values(t, test.values)...)...); err != nil {
					t.Errorf("%v\n%s", err, output)
				}
			})
		}
	}
}

// TestBothHelmsRenderTheSame, but for certificates, which are made anew each time.
func TestBothHelmsRenderTheSame(t *testing.T) {
	for _, test := range matrix {
		t.Run(test.name, func(t *testing.T) {
			var rendered [2][]*unstructured.Unstructured
			for i, version := range helms {
				text, err := template(t, version, test.values)
				if err != nil {
					t.Fatal(err)
				}
				if rendered[i], err = parse(text); err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(rendered[i], func(a, b *unstructured.Unstructured) int {
					return strings.Compare(a.GetKind()+a.GetNamespace()+a.GetName(), b.GetKind()+b.GetNamespace()+b.GetName())
				})
			}
			if len(rendered[0]) != len(rendered[1]) {
				t.Fatalf("got %d objects of %s and %d of %s", len(rendered[0]), helms[0], len(rendered[1]), helms[1])
			}
			for i, one := range rendered[0] {
				if before := rendered[0][max(0, i-1)]; i > 0 && before.GetKind() == one.GetKind() && before.GetNamespace() == one.GetNamespace() && before.GetName() == one.GetName() {
					t.Errorf("%s %s is there twice", one.GetKind(), one.GetName())
				}
				other := rendered[1][i]
				if one.GetKind() == "Secret" || one.GetName() == "meshvm-ca" {
					continue
				}
				if !reflect.DeepEqual(one.Object, other.Object) {
					t.Errorf("%s %s differs:\n%v\n%v", one.GetKind(), one.GetName(), one.Object, other.Object)
				}
			}
		})
	}
}

// deployment is the Deployment of a name among what is rendered.
func deployment(t *testing.T, text, name string) *appsv1.Deployment {
	t.Helper()
	objects, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() == "Deployment" && object.GetName() == name {
			d := &appsv1.Deployment{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, d, true); err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	t.Fatalf("No Deployment %s is rendered", name)
	return nil
}

// TestFlagsExist: the syncer has each flag that the chart gives it.
func TestFlagsExist(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), programs.Binary(t, programs.Syncer), "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	flag := regexp.MustCompile(`^--[a-z-]+`)
	for _, test := range matrix {
		t.Run(test.name, func(t *testing.T) {
			text, err := template(t, "helm", test.values)
			if err != nil {
				t.Fatal(err)
			}
			for _, arg := range deployment(t, text, release).Spec.Template.Spec.Containers[0].Args {
				if name := flag.FindString(arg); !regexp.MustCompile(regexp.QuoteMeta(name) + `[ \[=]`).Match(output) {
					t.Errorf("meshvm-syncer has no flag %s", name)
				}
			}
		})
	}
}

// TestPodsAreRestricted: the pods meet Kubernetes' strictest Pod Security Standard, whatever is set.
func TestPodsAreRestricted(t *testing.T) {
	for _, test := range matrix {
		t.Run(test.name, func(t *testing.T) {
			text, err := template(t, "helm", test.values)
			if err != nil {
				t.Fatal(err)
			}
			names := []string{release}
			if strings.Contains(test.values, "inClusterDNS") {
				names = append(names, release+"-dns")
			}
			for _, name := range names {
				spec := deployment(t, text, name).Spec.Template.Spec
				if spec.SecurityContext == nil || !*spec.SecurityContext.RunAsNonRoot || spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
					t.Errorf("%s: got %+v, want no root and the runtime's seccomp profile", name, spec.SecurityContext)
				}
				for _, container := range spec.Containers {
					context := container.SecurityContext
					if context == nil || *context.AllowPrivilegeEscalation || !*context.ReadOnlyRootFilesystem || !slices.Equal(context.Capabilities.Drop, []corev1.Capability{"ALL"}) {
						t.Errorf("%s: got %+v, want no escalation, a read-only root and no capability", name, context)
					}
					if container.ReadinessProbe == nil || container.LivenessProbe == nil || container.StartupProbe == nil {
						t.Errorf("%s: want a startup, a readiness and a liveness probe", name)
					}
				}
			}
		})
	}
}

// TestRefused: values that cannot be are refused with a message that names them.
func TestRefused(t *testing.T) {
	tests := []struct{ name, values, want string }{
		{"an unknown value", "{replicas: 2}", "replicas"},
		{"an unknown value within", "{tls: {mod: secret}}", "mod"},
		{"a number that is none", "{replicaCount: two}", "replicaCount"},
		{"no replica", "{replicaCount: 0}", "replicaCount"},
		{"an unknown mode", "{vip: {mode: give}}", "mode"},
		{"a range that is none", "{vip: {mode: allocate, ranges: [240.240.0.0]}}", "ranges"},
		{"a duration that is none", "{limits: {maxConnectionAge: 1 hour}}", "maxConnectionAge"},
		{"a share beyond all", "{shrinkGuard: {share: 2}}", "share"},
		{"a digest that is none", "{image: {digest: latest}}", "digest"},
		{"a mesh configuration without namespace", "{istio: {meshConfig: istio}}", "meshConfig"},
		{"a watcher without namespace", "{watchers: [{serviceAccount: vm}]}", "namespace"},
		{"nobody could prove anything", "{identity: {tokenReview: false}}", "set identity.tokenReview"},
		{"two authorities of VMs", "{identity: {clientCA: {configMap: a, secret: b}}}", "both a configMap and a secret"},
		{"an issuer for nothing", "{identity: {tokenIssuer: 'https://a'}}", "identity.tokenIssuer"},
		{"ranges that nobody gives from", "{vip: {ranges: [240.240.0.0/16]}}", "vip.mode allocate"},
		{"a timeout of nothing", "{vip: {pendingTimeout: 1m}}", "vip.pendingTimeout"},
		{"cert-manager without issuer", "{tls: {mode: cert-manager}}", "tls.certManager.issuerRef"},
		{"authorities of somebody else's", "{tls: {caBundle: \"-----BEGIN CERTIFICATE-----\"}}", "tls.caBundle"},
		{"a load balancer's option without one", "{service: {loadBalancerClass: a}}", "service.type LoadBalancer"},
		{"the same on nodes", "{service: {type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8]}}", "service.type LoadBalancer"},
		{"read twice", "{metrics: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}}", "read twice"},
		{"a monitor without the token it needs", "{http: {authorization: kubernetes}, metrics: {podMonitor: {enabled: true}}}", "metrics.tokenSecret.name"},
		{"more at least than at most", "{autoscaling: {enabled: true, minReplicas: 7}}", "autoscaling.minReplicas"},
		{"scaled by a share of nothing", "{autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}", "resources.requests.cpu"},
		{"DNS that nobody lets in", "{inClusterDNS: {enabled: true}, identity: {tokenReview: false, clientCA: {secret: a}}}", "identity.tokenReview"},
		{"a flag that has a value", "{extraArgs: [--vip=allocate]}", "extraArgs has --vip=allocate"},
		{"an authority that ends first", "{tls: {selfSigned: {authorityDays: 100}}}", "authorityDays is less than"},
		{"a pod killed before it is told", "{preStopSeconds: 60}", "preStopSeconds is not less"},
		{"no drain", "{podDisruptionBudget: {maxUnavailable: 0%}}", "no node could be drained"},
		{"a flag that a role depends on", "{extraArgs: [--sidecar-scope]}", "extraArgs has --sidecar-scope"},
		{"a flag that probes depend on", "{extraArgs: [--http-authorization=kubernetes]}", "extraArgs has --http-authorization"},
		{"a flag that makes no sense", "{extraArgs: [--insecure]}", "extraArgs has --insecure"},
		{"no account", "{serviceAccount: {create: false}}", "serviceAccount.name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, version := range helms {
				_, err := template(t, version, test.values)
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: got %v, want an error with %q", version, err, test.want)
				}
			}
		})
	}
}

// TestPlainManifestsAreFresh: those who have no Helm apply what the chart renders.
func TestPlainManifestsAreFresh(t *testing.T) {
	fresh := t.TempDir()
	script := exec.CommandContext(t.Context(), "sh", filepath.Join(root, "build", "manifests.sh"), filepath.Join(root, "bin", "test", "helm"), fresh)
	if output, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	files, err := os.ReadDir(fresh)
	if err != nil || len(files) < 6 {
		t.Fatalf("got %d files and %v, want some", len(files), err)
	}
	for _, file := range files {
		want, err := os.ReadFile(filepath.Join(fresh, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("deploy/kubernetes/%s is stale: run make manifests", file.Name())
		}
	}
}
