// Package bootstrap makes what a VM needs to join the mesh, on the machine of an operator: a Corefile, the
// authority of the syncer, and a token of the VM's ServiceAccount. These files are a Bundle.
//
// It speaks to the API server with the operator's own rights, from a kubeconfig, and needs few of them: `create` on
// `serviceaccounts/token` in the VM's namespace for the token, `get` on the syncer's Service and on the ConfigMap of its
// authority where they are not given, `create` on `localsubjectaccessreviews` to say whether the VM may watch.
//
// Tokens are in no error and in nothing that is printed.
package bootstrap
