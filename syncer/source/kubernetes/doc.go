// Package kubernetes feeds the registry from a Kubernetes API server: Services, EndpointSlices of
// headless Services, Namespaces and, where their definitions are installed, Istio's kinds. What
// holds:
//
//   - The source is synced when every kind has delivered what exists, and not before.
//   - Changes of one object are applied in order; a burst is applied as one revision.
//   - EndpointSlices are read of headless Services only: by the label that Kubernetes gives them, and
//     by name those that users make for Services without a selector.
//   - A kind backed by a custom resource definition is watched while its definition is there and
//     served. Without definitions Services are served.
//   - An API server that cannot be reached takes nothing away. It is tried for ever, and meanwhile
//     the source is not healthy.
//   - One object that makes no sense is named and touches no other.
package kubernetes
