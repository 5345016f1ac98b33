//go:build chart

package chart

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// objectsNamespace is where the objects are that names come from.
const objectsNamespace = "prod"

// objects is one of each kind that the syncer follows.
const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: prod}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod}
spec: {clusterIP: 10.96.77.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: mongodb, namespace: prod}
spec: {clusterIP: None, ports: [{name: mongo, port: 27017}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mongodb-1, namespace: prod, labels: {kubernetes.io/service-name: mongodb, service.kubernetes.io/headless: ""}}
addressType: IPv4
ports: [{name: mongo, port: 27017, protocol: TCP}]
endpoints: [{addresses: [10.0.77.2], hostname: mongodb-0, conditions: {ready: true}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: literal, namespace: prod}
spec: {hosts: [literal.example.com], addresses: [192.0.2.77], resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}], endpoints: [{address: 192.0.2.78}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: due, namespace: prod}
spec: {hosts: [due.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: selecting, namespace: prod}
spec:
  hosts: [workloads.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: workload}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: workload-vm, namespace: prod}
spec: {address: 192.0.2.90, labels: {app: workload}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: prod}
spec: {egress: [{hosts: ["./*"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: workload-pod, namespace: prod, labels: {app: workload}}
spec: {serviceAccountName: default, automountServiceAccountToken: false, containers: [{name: a, image: a}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "trustDomain: chart.test"}
`

// populate makes the objects, and gives the Pod an address as a kubelet does.
func (c *cluster) populate(t *testing.T) {
	t.Helper()
	if _, err := c.clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: objectsNamespace}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := c.clients.CoreV1().ServiceAccounts(objectsNamespace).Create(t.Context(), account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	if err := c.apply(objects); err != nil {
		t.Fatal(err)
	}
	status := `{"status":{"phase":"Running","podIP":"10.0.77.9","podIPs":[{"ip":"10.0.77.9"}],"conditions":[{"type":"Ready","status":"True"}]}}`
	if _, err := c.clients.CoreV1().Pods(objectsNamespace).Patch(t.Context(), "workload-pod", "application/merge-patch+json", []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		for _, resource := range []string{
			"networking.istio.io/v1/serviceentries", "networking.istio.io/v1/workloadentries", "networking.istio.io/v1/sidecars", "v1/services", "v1/pods",
			"discovery.k8s.io/v1/endpointslices", "v1/events",
		} {
			if err := c.dynamic.Resource(resourceOf(resource)).Namespace(objectsNamespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}); err != nil && !apierrors.IsMethodNotSupported(err) {
				t.Error(err)
			}
		}
	})
}
