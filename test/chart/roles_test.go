//go:build chart

package chart

import (
	"context"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// roles are the release's.
func (c *cluster) roles(t *testing.T) ([]rbacv1.ClusterRole, []rbacv1.Role) {
	t.Helper()
	in, mine := c.clients.RbacV1(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=meshvm"}
	clusterRoles, err := in.ClusterRoles().List(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := in.Roles("").List(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	return clusterRoles.Items, roles.Items
}

// granted is what the chart's roles let the syncer do, in order. The roles of VMs and of readers are not its own.
func (c *cluster) granted(t *testing.T) []string {
	t.Helper()
	clusterRoles, roles := c.roles(t)
	var rules []rbacv1.PolicyRule
	for _, role := range clusterRoles {
		if role.Name != release+"-reader" && role.Name != "meshvm-watcher" {
			rules = append(rules, role.Rules...)
		}
	}
	for _, role := range roles {
		rules = append(rules, role.Rules...)
	}
	var all []string
	for _, rule := range rules {
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				all = append(all, verb+" "+url)
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					all = append(all, verb+" "+group+"/"+resource)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// take takes a right from every role of the release until the test's end, and returns when the API server knows.
func (c *cluster) take(t *testing.T, taken right) {
	t.Helper()
	clusterRoles, roles := c.roles(t)
	in := c.clients.RbacV1()
	found := false
	for _, role := range clusterRoles {
		write := func(ctx context.Context, rules []rbacv1.PolicyRule) error {
			now := role.DeepCopy()
			now.Rules, now.ResourceVersion = rules, ""
			_, err := in.ClusterRoles().Update(ctx, now, metav1.UpdateOptions{})
			return err
		}
		found = c.takeFrom(t, role.Rules, "", taken, write) || found
	}
	for _, role := range roles {
		write := func(ctx context.Context, rules []rbacv1.PolicyRule) error {
			now := role.DeepCopy()
			now.Rules, now.ResourceVersion = rules, ""
			_, err := in.Roles(role.Namespace).Update(ctx, now, metav1.UpdateOptions{})
			return err
		}
		found = c.takeFrom(t, role.Rules, role.Namespace, taken, write) || found
	}
	if !found {
		t.Fatalf("No role of the chart grants %s", taken.what())
	}
}

// takeFrom takes a right from the rules of one role, and reports whether it was there.
func (c *cluster) takeFrom(t *testing.T, rules []rbacv1.PolicyRule, in string, taken right, write func(context.Context, []rbacv1.PolicyRule) error) bool {
	t.Helper()
	left, asks := without(rules, in, taken)
	if len(asks) == 0 {
		return false
	}
	if err := write(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := write(context.Background(), rules); err != nil {
			t.Error(err)
		}
		c.decided(t, asks, true)
	})
	c.decided(t, asks, false)
	return true
}

// without is rules less a right, and what an access review would ask for it.
func without(rules []rbacv1.PolicyRule, in string, taken right) (left []rbacv1.PolicyRule, asks []authorizationv1.SubjectAccessReviewSpec) {
	verbs := strings.Split(taken.verbs, "|")
	group, resource, isResource := strings.Cut(taken.resource, "/")
	for _, rule := range rules {
		granted := rule
		switch {
		case slices.Contains(rule.NonResourceURLs, taken.resource):
			granted.NonResourceURLs = slices.DeleteFunc(slices.Clone(rule.NonResourceURLs), func(url string) bool { return url == taken.resource })
			asks = append(asks, authorizationv1.SubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: taken.resource, Verb: verbs[0]}})
		case isResource && slices.Contains(rule.APIGroups, group) && slices.Contains(rule.Resources, resource) &&
			slices.ContainsFunc(rule.Verbs, func(verb string) bool { return slices.Contains(verbs, verb) }):
			granted.Resources = slices.DeleteFunc(slices.Clone(rule.Resources), func(one string) bool { return one == resource })
			name := ""
			if len(rule.ResourceNames) > 0 {
				name = rule.ResourceNames[0]
			}
			bare, sub, _ := strings.Cut(resource, "/")
			asks = append(asks, authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: in, Verb: verbs[0], Group: group, Resource: bare, Subresource: sub, Name: name,
			}})
		}
		if len(granted.Resources)+len(granted.NonResourceURLs) > 0 {
			left = append(left, granted)
		}
	}
	return left, asks
}

// decided waits until the API server allows the chart's ServiceAccount something, or does not.
func (c *cluster) decided(t *testing.T, asks []authorizationv1.SubjectAccessReviewSpec, allowed bool) {
	t.Helper()
	for _, ask := range asks {
		ask.User = "system:serviceaccount:" + namespace + ":" + release
		eventually(t, "the API server knows the role", func() error {
			review, err := c.clients.AuthorizationV1().SubjectAccessReviews().Create(context.Background(), &authorizationv1.SubjectAccessReview{Spec: ask}, metav1.CreateOptions{})
			if err == nil && review.Status.Allowed != allowed {
				err = errNotYet
			}
			return err
		})
	}
}
