package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
)

// GrantSyncerRole gives SyncerUser the ClusterRole that meshvm ships in deploy/kubernetes, and nothing
// else. To grant it again changes nothing.
func (c *ControlPlane) GrantSyncerRole(ctx context.Context) error {
	role, err := c.shippedRole()
	if err != nil {
		return fmt.Errorf("grant the syncer's role: %w", err)
	}
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return fmt.Errorf("grant the syncer's role: %w", err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: SyncerUser, APIGroup: rbacv1.GroupName}},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: role.Name, APIGroup: rbacv1.GroupName},
	}
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("grant the syncer's role: %w", err)
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("grant the syncer's role: %w", err)
	}
	return nil
}

// shippedRole is the ClusterRole among the objects of rbac.yaml.
func (c *ControlPlane) shippedRole() (*rbacv1.ClusterRole, error) {
	file, err := os.Open(filepath.Join(c.root, "deploy", "kubernetes", "rbac.yaml"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		role := &rbacv1.ClusterRole{}
		if err := decoder.Decode(role); err != nil {
			return nil, fmt.Errorf("find the ClusterRole in %s: %w", file.Name(), err)
		}
		if role.Kind == "ClusterRole" {
			return role, nil
		}
	}
}
