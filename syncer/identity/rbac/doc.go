// Package rbac has the cluster say whether an identity may watch, by a SubjectAccessReview (authorization.k8s.io/v1): verb watch,
// resource registries of group meshvm.io, in the namespace of the identity. There is no such resource; it is a name to grant. Roles,
// webhooks and whatever else authorizes in the cluster have their say.
//
// A yes counts for half the recheck interval at most, so that whoever asks once in an interval is told the truth, and a no for ten seconds. While the
// API server cannot be asked, the last yes goes on for ten minutes more.
package rbac
