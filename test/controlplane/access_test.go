package controlplane

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/net"
)

func TestServiceGetsAddressesOfBothFamilies(t *testing.T) {
	c := cluster.ControlPlane(t)
	policy := corev1.IPFamilyPolicyRequireDualStack
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "reviews"},
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: &policy, Ports: []corev1.ServicePort{{Port: 9080}}},
	}
	created, err := clientFor(t, c.RESTConfig()).CoreV1().Services(c.Namespace(t)).Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addresses := created.Spec.ClusterIPs
	if len(addresses) != 2 || !net.IsIPv4String(addresses[0]) || !net.IsIPv6String(addresses[1]) {
		t.Errorf("cluster IPs: got %q, want one of each family, IPv4 first", addresses)
	}
}

func TestSyncerUserMayDoWhatIsGranted(t *testing.T) {
	c := cluster.ControlPlane(t)
	namespace := c.Namespace(t)
	admin := clientFor(t, c.RESTConfig())
	file, err := c.KubeconfigFor(SyncerUser)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	syncer := clientFor(t, config)

	if _, err := syncer.CoreV1().Services(namespace).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list services before any binding: got %v, want forbidden", err)
	}
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "services"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list"}}},
	}
	if _, err := admin.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "services"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "services"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: SyncerUser},
			{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "syncer"},
		},
	}
	if _, err := admin.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	accountFile, err := c.KubeconfigForServiceAccount(t.Context(), namespace, "syncer")
	if err != nil {
		t.Fatal(err)
	}
	accountConfig, err := clientcmd.BuildConfigFromFlags("", accountFile)
	if err != nil {
		t.Fatal(err)
	}
	account := clientFor(t, accountConfig)
	for name, client := range map[string]*kubernetes.Clientset{"user": syncer, "service account": account} {
		// The authorizer learns of the binding through a watch of its own.
		eventually(t, "the "+name+" may list services", func() error {
			_, err := client.CoreV1().Services(namespace).List(t.Context(), metav1.ListOptions{})
			return err
		})
		if _, err := client.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("the %s lists secrets: got %v, want forbidden", name, err)
		}
	}
}

func TestUnknownUserIsAnError(t *testing.T) {
	c := cluster.ControlPlane(t)
	if _, err := c.KubeconfigFor("nobody"); err == nil {
		t.Error("KubeconfigFor: got nil, want an error")
	}
	if _, err := c.RESTConfigFor("nobody"); err == nil {
		t.Error("RESTConfigFor: got nil, want an error")
	}
}

// A TokenReview that does not ask for the audience meshvm must not accept a
// token made for it, nor one that does a token made for the API server.
func TestTokensAreBoundToTheirAudience(t *testing.T) {
	c := cluster.ControlPlane(t)
	namespace := c.Namespace(t)
	reviews := clientFor(t, c.RESTConfig()).AuthenticationV1().TokenReviews()
	tests := map[string]struct {
		issuedFor []string
		asked     []string
		want      bool
	}{
		"meshvm's token, meshvm asked":         {[]string{"meshvm"}, []string{"meshvm"}, true},
		"meshvm's token, nothing asked":        {[]string{"meshvm"}, nil, false},
		"the API server's token, meshvm asked": {nil, []string{"meshvm"}, false},
		"the API server's token, none asked":   {nil, nil, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			token, err := c.ServiceAccountToken(t.Context(), namespace, "vm", test.issuedFor...)
			if err != nil {
				t.Fatal(err)
			}
			review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: test.asked}}
			reviewed, err := reviews.Create(t.Context(), review, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if reviewed.Status.Authenticated != test.want {
				t.Errorf("authenticated: got %t (%s), want %t", reviewed.Status.Authenticated, reviewed.Status.Error, test.want)
			}
			if want := "system:serviceaccount:" + namespace + ":vm"; test.want && reviewed.Status.User.Username != want {
				t.Errorf("user: got %q, want %q", reviewed.Status.User.Username, want)
			}
		})
	}
}
