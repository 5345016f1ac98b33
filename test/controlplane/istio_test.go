package controlplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	istio "istio.io/client-go/pkg/clientset/versioned"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func istioClientFor(t *testing.T, c *ControlPlane) *istio.Clientset {
	t.Helper()
	client, err := istio.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func serviceEntry(hosts ...string) *networkingv1.ServiceEntry {
	return &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Name: "payments"},
		Spec: networkingapi.ServiceEntry{
			Hosts:      hosts,
			Ports:      []*networkingapi.ServicePort{{Number: 443, Name: "tls", Protocol: "TLS"}},
			Resolution: networkingapi.ServiceEntry_DNS,
		},
	}
}

func TestServiceEntryStatusKeepsAddresses(t *testing.T) {
	c := cluster.ControlPlane(t)
	entries := istioClientFor(t, c).NetworkingV1().ServiceEntries(c.Namespace(t))
	if _, err := entries.Create(t.Context(), serviceEntry("payments.example.com"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patch := []byte(`{"status":{"addresses":[
		{"host":"payments.example.com","value":"240.240.0.1"},
		{"host":"payments.example.com","value":"2001:2::1"}]}}`)
	if _, err := entries.Patch(t.Context(), "payments", types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	stored, err := entries.Get(t.Context(), "payments", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, address := range stored.Status.GetAddresses() {
		got = append(got, address.GetHost()+"="+address.GetValue())
	}
	if want := "payments.example.com=240.240.0.1 payments.example.com=2001:2::1"; strings.Join(got, " ") != want {
		t.Errorf("status.addresses: got %q, want %q", strings.Join(got, " "), want)
	}
}

func TestServiceEntryIsValidated(t *testing.T) {
	c := cluster.ControlPlane(t)
	entries := istioClientFor(t, c).NetworkingV1().ServiceEntries(c.Namespace(t))
	if _, err := entries.Create(t.Context(), serviceEntry(), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a ServiceEntry without hosts: got %v, want invalid", err)
	}
}

func TestIstioCRDsComeAndGo(t *testing.T) {
	c := Start(t)
	entries := istioClientFor(t, c).NetworkingV1().ServiceEntries("default")
	for round := range 2 {
		if _, err := entries.List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("round %d: list ServiceEntries without their definition: got %v, want not found", round, err)
		}
		if err := c.InstallIstioCRDs(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := c.InstallIstioCRDs(t.Context()); err != nil {
			t.Fatalf("round %d: install a second time: %v", round, err)
		}
		if _, err := entries.Create(t.Context(), serviceEntry("payments.example.com"), metav1.CreateOptions{}); err != nil {
			t.Fatalf("round %d: create a ServiceEntry: %v", round, err)
		}
		if err := c.RemoveIstioCRDs(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if err := c.RemoveIstioCRDs(t.Context()); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
}

func TestReadDefinitionsRefuses(t *testing.T) {
	tests := map[string]struct{ content, want string }{
		"nothing":          {"# only a comment\n", "no custom resource definition in it"},
		"another kind":     {"kind: Service\nmetadata: {name: reviews}\n", `document 1 is a "Service" named "reviews"`},
		"no YAML":          {"a: [\n", "document 1: "},
		"the wrong fields": {"kind: CustomResourceDefinition\nspec: 1\n", "document 1: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "definitions.yaml")
			if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := readDefinitions(file)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want an error with %q and the file's name", err, test.want)
			}
		})
	}
}
