package bootstrap

import (
	"context"
	"fmt"
	"slices"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/identity/rbac"
)

// WatcherRole is the ClusterRole of VMs: to watch the registry of the namespace that it is bound in.
const WatcherRole = rbac.ClusterRole

// grantPatience is how long the API server may take to act on a RoleBinding that it has stored.
const (
	grantPatience = 5 * time.Second
	grantInterval = 100 * time.Millisecond
)

// GrantCommand is the kubectl line that lets an account watch.
func GrantCommand(account Account) string {
	return fmt.Sprintf("kubectl create rolebinding %s --clusterrole=%s --serviceaccount=%s:%s --namespace=%s",
		bindingName(account), WatcherRole, account.Namespace, account.Name, account.Namespace)
}

func bindingName(account Account) string { return WatcherRole + "-" + account.Name }

// MayWatch reports whether an account may watch the registry of its namespace, as a syncer with --authorization rbac
// would find. It asks with a LocalSubjectAccessReview, which the admin of a namespace may create as well.
func (c *Cluster) MayWatch(ctx context.Context, account Account) (bool, error) {
	who := identity.ServiceAccountUser(account.Namespace, account.Name)
	review := &authorizationv1.LocalSubjectAccessReview{
		ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace},
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   who.Name,
			Groups: who.Groups,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: account.Namespace, Verb: rbac.Verb, Group: rbac.Group, Version: "*", Resource: rbac.Resource,
			},
		},
	}
	answer, err := c.authorization.LocalSubjectAccessReviews(account.Namespace).Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether ServiceAccount %s may %s %s.%s in namespace %s: %w",
			account, rbac.Verb, rbac.Resource, rbac.Group, account.Namespace, err)
	}
	return answer.Status.Allowed, nil
}

// Grant binds WatcherRole to an account in its namespace, and reports whether it had to. A RoleBinding of that name that
// says something else is left as it is, and is an error.
func (c *Cluster) Grant(ctx context.Context, account Account) (bool, error) {
	wanted := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: bindingName(account)},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: WatcherRole},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
	}
	bindings := c.rbac.RoleBindings(account.Namespace)
	_, err := bindings.Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil {
		return true, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return false, fmt.Errorf("grant ServiceAccount %s ClusterRole %s: %w", account, WatcherRole, err)
	}
	present, err := bindings.Get(ctx, wanted.Name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("grant ServiceAccount %s ClusterRole %s: %w", account, WatcherRole, err)
	}
	if present.RoleRef != wanted.RoleRef || !slices.Contains(present.Subjects, wanted.Subjects[0]) {
		return false, fmt.Errorf("grant ServiceAccount %s ClusterRole %s: RoleBinding %s/%s is there and says something else; delete it, or grant by another",
			account, WatcherRole, account.Namespace, wanted.Name)
	}
	return false, nil
}

// AwaitGrant is MayWatch after a Grant, which the API server takes a moment to act on.
func (c *Cluster) AwaitGrant(ctx context.Context, account Account) (bool, error) {
	patience := time.After(grantPatience)
	ticker := time.NewTicker(grantInterval)
	defer ticker.Stop()
	for {
		if may, err := c.MayWatch(ctx, account); may || err != nil {
			return may, err
		}
		select {
		case <-ticker.C:
		case <-patience:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
