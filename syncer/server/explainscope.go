package server

import (
	"fmt"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// narrow has the explanation go by the scope of the VM that is asked for.
func (e *explanation) narrow() {
	scope, by := e.server.opts.Scopes.Scope(e.Namespace, e.question.node, e.question.peer)
	e.scope = scope
	if by != (registry.Object{}) {
		sidecar := objectOf(by)
		e.Sidecar = &sidecar
	}
}

func (e *explanation) sees(entry *registry.Entry) bool {
	return entry.Visibility.In(e.Namespace) && e.scope.Sees(entry)
}

// hidden reports whether only the scope keeps the VM from seeing something.
func (e *explanation) hidden(entry *registry.Entry) bool {
	return entry.Visibility.In(e.Namespace) && !e.scope.Sees(entry)
}

// unseen is why the VM does not see a claim.
func (e *explanation) unseen(claim explain.Claim) string {
	if claim.Hidden {
		return fmt.Sprintf("not imported by %s", e.Sidecar)
	}
	return fmt.Sprintf("exported to %s, not to %s", exportedTo(claim), e.namespaceName())
}
