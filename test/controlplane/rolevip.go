package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
)

// GrantSyncerVIPRole gives SyncerUser what meshvm ships in deploy/kubernetes/rbac-vip.yaml, with the
// Role in the namespace given in the place of meshvm's own. To grant it again changes nothing.
func (c *ControlPlane) GrantSyncerVIPRole(ctx context.Context, namespace string) error {
	if err := c.grantVIPRole(ctx, namespace); err != nil {
		return fmt.Errorf("grant the syncer's role for virtual IPs: %w", err)
	}
	return nil
}

func (c *ControlPlane) grantVIPRole(ctx context.Context, namespace string) error {
	var wide rbacv1.ClusterRole
	var narrow rbacv1.Role
	if err := c.shippedVIPRoles(&wide, &narrow); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: SyncerUser, APIGroup: rbacv1.GroupName}}
	narrow.Namespace = namespace
	create := metav1.CreateOptions{}
	rbac := client.RbacV1()
	_, wideErr := rbac.ClusterRoles().Create(ctx, &wide, create)
	_, narrowErr := rbac.Roles(namespace).Create(ctx, &narrow, create)
	_, wideBound := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: wide.Name}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: wide.Name, APIGroup: rbacv1.GroupName},
	}, create)
	_, narrowBound := rbac.RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: narrow.Name}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{Kind: "Role", Name: narrow.Name, APIGroup: rbacv1.GroupName},
	}, create)
	for _, err := range []error{wideErr, narrowErr, wideBound, narrowBound} {
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// shippedVIPRoles reads the ClusterRole and the Role of rbac-vip.yaml.
func (c *ControlPlane) shippedVIPRoles(wide *rbacv1.ClusterRole, narrow *rbacv1.Role) error {
	file, err := os.Open(filepath.Join(c.root, "deploy", "kubernetes", "rbac-vip.yaml"))
	if err != nil {
		return err
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		raw := unstructured.Unstructured{}
		if err := decoder.Decode(&raw.Object); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return fmt.Errorf("read %s: %w", file.Name(), err)
		}
		for kind, into := range map[string]any{"ClusterRole": wide, "Role": narrow} {
			if raw.GetKind() != kind {
				continue
			}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw.Object, into); err != nil {
				return fmt.Errorf("read %s: %w", file.Name(), err)
			}
		}
	}
	if wide.Name == "" || narrow.Name == "" {
		return fmt.Errorf("%s: want a ClusterRole and a Role", file.Name())
	}
	return nil
}
