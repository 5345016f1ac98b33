// Package identity is who a VM is proved to be, and whether it may watch.
//
// A VM proves a Kubernetes ServiceAccount: by the SPIFFE ID of its client certificate, or by a token of that
// account. Whoever proves it, the outcome is an Identity, and the namespace of that Identity alone says what
// the VM is shown. An Authorizer may then be asked whether the Identity is let in. Whoever says no says it with a
// Refusal, which is for the VM's operator: it tells what to do, and nothing that is not the VM's own.
//
// Certificates are read here. Tokens are verified by the packages below, each in its own way; rbac asks the
// cluster what an identity may do.
package identity
