//go:build chart

package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// matrix is values that between them render every object and every branch of the chart.
var matrix = []struct{ name, values string }{
	{"defaults", ""},
	{"one syncer", "{replicaCount: 1, podDisruptionBudget: {enabled: true}}"},
	{"virtual IPs", "{vip: {mode: allocate, ranges: [240.240.0.0/24, '2001:2::/64'], quarantine: 1h, qps: 50, pending: nodata, pendingTimeout: 10s}}"},
	{"Istio", "{istio: {meshConfig: istio-system/istio, sidecarScope: true}, identity: {clientCA: {configMap: istio-ca-root-cert}, authorization: identity}}"},
	{"certificates only", "{identity: {tokenReview: false, clientCA: {secret: authorities, key: root.pem}}, networkPolicy: {enabled: false}}"},
	{"offline tokens", "{identity: {tokenReview: false, tokenJWKS: cluster, tokenIssuer: 'https://issuer.example', recheck: 1m, qps: 10}}"},
	{"load balancer", `{service: {type: LoadBalancer, port: 443, loadBalancerClass: example.com/internal, loadBalancerSourceRanges: [10.0.0.0/8],
  annotations: {example.com/internal: "true"}, labels: {team: network}, nodePort: 30054}}`},
	{"node port", "{service: {type: NodePort, externalTrafficPolicy: Cluster, ipFamilyPolicy: SingleStack}}"},
	{"cert-manager", "{tls: {mode: cert-manager, dnsNames: [syncer.example.com], ipAddresses: [192.0.2.1], certManager: {issuerRef: {name: ca, kind: ClusterIssuer}}}}"},
	{"a certificate that is there", `{tls: {mode: secret, secretName: mine, caBundle: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}}`},
	{"authorities exchanged", "{tls: {selfSigned: {authorities: [second, first]}}}"},
	{"monitored", `{metrics: {serviceMonitor: {enabled: true, labels: {release: prometheus}}, prometheusRule: {enabled: true}, dashboards: {enabled: true,
  annotations: {grafana_folder: meshvm}}}}`},
	{"DNS in the cluster monitored", "{inClusterDNS: {enabled: true}, metrics: {serviceMonitor: {enabled: true, labels: {release: prometheus}}}}"},
	{"monitored by pod", "{metrics: {podMonitor: {enabled: true, labels: {a: b}, interval: 10s}}}"},
	{"monitored by pod with a token", "{http: {authorization: kubernetes}, metrics: {podMonitor: {enabled: true}, tokenSecret: {name: prometheus-token}}}"},
	{"autoscaled", "{autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 9}}"},
	{"DNS in the cluster", "{inClusterDNS: {enabled: true, stubDomains: [example.com, example.org]}, watchers: [{namespace: default, serviceAccount: vm}, {namespace: default}]}"},
	{"watchers of alike names", "{watchers: [{namespace: default, serviceAccount: all}, {namespace: default}]}"},
	{"no limits", "{resources: null, extraEnv: [{name: GOMEMLIMIT, value: 1GiB}]}"},
	{"a limit of one's own", "{extraEnv: [{name: GOMEMLIMIT, value: 1GiB}], identity: {tokenAudience: '123456789012'}, inClusterDNS: {enabled: true}}"},
	{"whom the cluster has pods run as", "{podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}, inClusterDNS: {enabled: true}}"},
	{"where pods run", `{priorityClassName: system-cluster-critical, nodeSelector: {kubernetes.io/os: linux}, tolerations: [{operator: Exists}],
  affinity: {nodeAffinity: {}}, podLabels: {a: b}, podAnnotations: {c: d}, commonLabels: {team: network}, extraArgs: [--identity-recheck=1m],
  extraEnv: [{name: GOMAXPROCS, value: "2"}], imagePullSecrets: [{name: registry}], serviceAccount: {annotations: {e: f}},
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}], preStopSeconds: 0, resources: {}}`},
}

// fixtures installs the kinds that are not Kubernetes' own.
func (c *cluster) fixtures() {
	c.t.Helper()
	crds, err := os.ReadFile(filepath.Join(root, "test", "chart", "testdata", "crds.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.apply(string(crds)); err != nil {
		c.t.Fatal(err)
	}
	// They are served some time after they are accepted.
	eventually(c.t, "the kinds of the Prometheus operator and cert-manager are served", func() error {
		return c.apply("apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: first, namespace: default}\nspec: {secretName: a, issuerRef: {name: b}}\n")
	})
}

// TestObjects: the API server takes every object, with not one field that it does not know.
func TestObjects(t *testing.T) {
	c := newCluster(t)
	if err := c.apply("apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: x, namespace: default}\nspec: {secretName: a, issuerRef: {name: b}, wrong: c}\n"); err == nil {
		t.Fatal("A Certificate with an unknown field was accepted: the test can find nothing")
	}
	for _, test := range matrix {
		t.Run(test.name, func(t *testing.T) {
			for _, version := range helms {
				rendered, err := template(t, version, test.values)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.apply(rendered); err != nil {
					t.Errorf("%s: %v", version, err)
				}
			}
		})
	}
	for _, objects := range []string{"namespace", "rbac", "rbac-identity", "rbac-vip", "rbac-istio-mesh-config", "watcher-role", "syncer"} {
		t.Run("plain "+objects, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", objects+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.apply(string(content)); err != nil {
				t.Error(err)
			}
		})
	}
	c.clear()
}

// clear deletes what apply has left in the namespace, and roles of the release, so that Helm finds none of it.
func (c *cluster) clear() {
	c.t.Helper()
	for _, resource := range []string{
		"apps/v1/deployments", "v1/services", "v1/secrets", "v1/configmaps", "v1/serviceaccounts", "policy/v1/poddisruptionbudgets",
		"autoscaling/v2/horizontalpodautoscalers", "networking.k8s.io/v1/networkpolicies", "rbac.authorization.k8s.io/v1/roles",
		"rbac.authorization.k8s.io/v1/rolebindings", "rbac.authorization.k8s.io/v1/clusterroles", "rbac.authorization.k8s.io/v1/clusterrolebindings",
		"monitoring.coreos.com/v1/servicemonitors", "monitoring.coreos.com/v1/podmonitors", "monitoring.coreos.com/v1/prometheusrules", "cert-manager.io/v1/certificates",
	} {
		c.delete(resource)
	}
}

func (c *cluster) delete(resource string) {
	c.t.Helper()
	mine := metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=meshvm"}
	kind := resourceOf(resource)
	list, err := c.dynamic.Resource(kind).List(c.t.Context(), mine)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, object := range list.Items {
		err := c.dynamic.Resource(kind).Namespace(object.GetNamespace()).Delete(c.t.Context(), object.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			c.t.Fatal(err)
		}
	}
}

// TestInstall: each Helm installs, upgrades to all else, and takes everything away again.
func TestInstall(t *testing.T) {
	c := newCluster(t)
	c.clear()
	for _, version := range helms {
		t.Run(version, func(t *testing.T) {
			c := *c
			c.t = t
			c.install(version, "")
			before := c.secret("meshvm-syncer-tls")
			for _, test := range matrix {
				if test.name == "autoscaled" || strings.HasPrefix(test.name, "a certificate") || test.name == "cert-manager" || test.name == "authorities exchanged" {
					continue // Those give the certificate to somebody else.
				}
				c.upgrade(version, test.values)
			}
			after := c.secret("meshvm-syncer-tls")
			if string(before.Data["tls.crt"]) != string(after.Data["tls.crt"]) || string(before.Data["ca.crt"]) != string(after.Data["ca.crt"]) {
				t.Error("An upgrade that changed no name exchanged the certificate")
			}
			// Whoever takes certificates over has put one into that very Secret.
			c.upgrade(version, "{tls: {mode: secret}}")
			if kept := c.secret("meshvm-syncer-tls"); string(kept.Data["tls.crt"]) != string(after.Data["tls.crt"]) {
				t.Error("The certificate changed as tls.mode became secret")
			}
			c.upgrade(version, "")
			c.upgrade(version, "{tls: {selfSigned: {certificateDays: 300}}}")
			if renewed := c.secret("meshvm-syncer-tls"); string(renewed.Data["tls.crt"]) == string(after.Data["tls.crt"]) {
				t.Error("certificateDays changed, and the certificate did not")
			}
			if err := c.uninstall(t.Context(), version); err != nil {
				t.Fatal(err)
			}
			left, err := c.clients.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=meshvm"})
			if err != nil {
				t.Fatal(err)
			}
			if len(left.Items) != 0 {
				t.Errorf("Got %d Secrets after helm uninstall, want none", len(left.Items))
			}
		})
	}
}

func (c *cluster) secret(name string) *corev1.Secret {
	c.t.Helper()
	secret, err := c.clients.CoreV1().Secrets(namespace).Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return secret
}

// resourceOf is what "GROUP/VERSION/PLURAL" names, or "VERSION/PLURAL".
func resourceOf(text string) schema.GroupVersionResource {
	parts := strings.Split(text, "/")
	resource := schema.GroupVersionResource{Version: parts[len(parts)-2], Resource: parts[len(parts)-1]}
	if len(parts) == 3 {
		resource.Group = parts[0]
	}
	return resource
}
