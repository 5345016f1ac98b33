// Package controlplane runs a real Kubernetes control plane for tests: etcd and
// kube-apiserver as two processes on loopback ports, built from the module in
// test/servers.
//
// A test that wants one for itself calls Start. Tests of a package that share
// one declare a Shared. Programs and other harnesses call Run and Stop.
//
// It is the API server as clusters run it: RBAC decides, tokens are checked,
// Services get cluster IPs of both families, custom resources are validated.
// What a cluster has beyond it is absent: there is no controller manager, so
// nobody writes EndpointSlices or endpoints, no garbage is collected, and a
// deleted namespace would stay Terminating for ever were it not for Namespace,
// which finishes its own. Pods are never scheduled.
//
// The servers die with the process that started them on Linux, even when it is
// killed; elsewhere only Stop ends them.
package controlplane
