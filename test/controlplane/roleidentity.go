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
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
)

// GrantSyncerIdentityRole gives SyncerUser what meshvm ships in deploy/kubernetes/rbac-identity.yaml: to review tokens and access, and
// to read the keys of tokens. To grant it again changes nothing.
func (c *ControlPlane) GrantSyncerIdentityRole(ctx context.Context) error {
	if err := c.grantShipped(ctx, "rbac-identity.yaml", true); err != nil {
		return fmt.Errorf("grant the syncer's role for identities: %w", err)
	}
	return nil
}

// CreateWatcherRole creates the ClusterRole meshvm-watcher of deploy/kubernetes/watcher-role.yaml, and binds it to nobody. To create it
// again changes nothing.
func (c *ControlPlane) CreateWatcherRole(ctx context.Context) error {
	if err := c.grantShipped(ctx, "watcher-role.yaml", false); err != nil {
		return fmt.Errorf("create the watchers' role: %w", err)
	}
	return nil
}

// AllowWatch lets a ServiceAccount watch the registry of its namespace, as the command in watcher-role.yaml does, and
// ForbidWatch takes that back.
func (c *ControlPlane) AllowWatch(ctx context.Context, namespace, account string) error {
	if err := c.CreateWatcherRole(ctx); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: watcherBinding(account)},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: "meshvm-watcher", APIGroup: rbacv1.GroupName},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	}
	if _, err := client.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("allow %s/%s to watch: %w", namespace, account, err)
	}
	return nil
}

// ForbidWatch takes back what AllowWatch gave.
func (c *ControlPlane) ForbidWatch(ctx context.Context, namespace, account string) error {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	if err := client.RbacV1().RoleBindings(namespace).Delete(ctx, watcherBinding(account), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("forbid %s/%s to watch: %w", namespace, account, err)
	}
	return nil
}

func watcherBinding(account string) string { return "meshvm-watcher-" + account }

// grantShipped creates the ClusterRole of a shipped manifest, and binds it to SyncerUser where that is wanted.
func (c *ControlPlane) grantShipped(ctx context.Context, manifest string, bind bool) error {
	role, err := c.shippedClusterRole(manifest)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if !bind {
		return nil
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: SyncerUser, APIGroup: rbacv1.GroupName}},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: role.Name, APIGroup: rbacv1.GroupName},
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// shippedClusterRole is the one ClusterRole among the objects of a shipped manifest.
func (c *ControlPlane) shippedClusterRole(manifest string) (*rbacv1.ClusterRole, error) {
	file, err := os.Open(filepath.Join(c.root, "deploy", "kubernetes", manifest))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		role := &rbacv1.ClusterRole{}
		err := decoder.Decode(role)
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: want a ClusterRole", file.Name())
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file.Name(), err)
		}
		if role.Kind == "ClusterRole" {
			return role, nil
		}
	}
}
