package registryv1

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// Ruling is the outcome when several objects claim one host.
type Ruling struct {
	// Winners are the claims that are answered, joined, in order of precedence. All are of one
	// namespace and one origin. There is exactly one unless the origin is ServiceEntry.
	Winners []*Service
	// Losers are the other claims, in order of precedence.
	Losers []*Service
	// Reason says in a few words why the winners won. Empty when nobody else claims the host.
	Reason string
}

// Reasons that a Ruling gives, strongest first.
const (
	ReasonDerived      = "a host that is claimed wins over the name of an endpoint"
	ReasonOwnNamespace = "the watcher's own namespace wins"
	ReasonOrigin       = "a Kubernetes Service wins over a ServiceEntry"
	ReasonExported     = "what is exported to the watcher's namespace by name wins over what is exported to everyone"
	ReasonOldest       = "the oldest wins"
	ReasonName         = "of the same age, the first by namespace and name wins"
)

// ResolveClaims rules on claims of one host, all of them visible to a watcher in namespace. A host that
// somebody claims wins over the name of an endpoint; then the watcher's own namespace wins; then a Kubernetes
// Service over anything else; then what is exported by name over what everyone sees; then the oldest; ties go
// by namespace, then name, then cluster. ServiceEntries of the winning namespace are joined.
//
// This is Istio's choice of a service for a host, made deterministic: it depends on nothing but the
// claims. The order of claims does not matter, and claims itself is not modified.
func ResolveClaims(claims []*Service, namespace string) Ruling {
	if len(claims) < 2 {
		return Ruling{Winners: claims}
	}
	ranked := slices.Clone(claims)
	slices.SortFunc(ranked, func(a, b *Service) int {
		order, _ := precedence(a, b, namespace)
		return order
	})
	first := ranked[0]
	var ruling Ruling
	for _, claim := range ranked {
		if claim == first || joins(first, claim) {
			ruling.Winners = append(ruling.Winners, claim)
		} else {
			ruling.Losers = append(ruling.Losers, claim)
		}
	}
	if len(ruling.Losers) > 0 {
		_, ruling.Reason = precedence(first, ruling.Losers[0], namespace)
	}
	return ruling
}

func joins(winner, claim *Service) bool {
	return winner.GetOrigin() == Origin_ORIGIN_SERVICE_ENTRY &&
		claim.GetOrigin() == Origin_ORIGIN_SERVICE_ENTRY &&
		claim.GetNamespace() == winner.GetNamespace() &&
		claim.GetDerived() == winner.GetDerived()
}

// precedence compares two claims, the stronger first, and says which rule decided.
func precedence(a, b *Service, namespace string) (int, string) {
	if order := firstTrue(!a.GetDerived(), !b.GetDerived()); order != 0 {
		return order, ReasonDerived
	}
	if order := firstTrue(a.GetNamespace() == namespace, b.GetNamespace() == namespace); order != 0 {
		return order, ReasonOwnNamespace
	}
	kubernetes := Origin_ORIGIN_KUBERNETES
	if order := firstTrue(a.GetOrigin() == kubernetes, b.GetOrigin() == kubernetes); order != 0 {
		return order, ReasonOrigin
	}
	if order := firstTrue(a.GetExportedByName(), b.GetExportedByName()); order != 0 {
		return order, ReasonExported
	}
	if order := cmp.Compare(a.GetCreatedAt(), b.GetCreatedAt()); order != 0 {
		return order, ReasonOldest
	}
	return cmp.Or(
		strings.Compare(a.GetNamespace(), b.GetNamespace()),
		strings.Compare(a.GetName(), b.GetName()),
		strings.Compare(a.GetCluster(), b.GetCluster()),
		// What is left are the endpoints of one ServiceEntry.
		slices.CompareFunc(a.GetAddresses(), b.GetAddresses(), bytes.Compare),
	), ReasonName
}

func firstTrue(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// JoinedKind is what the addresses of claims that are joined are. One that moves makes all of them move. A
// virtual IP is awaited only as long as no claim has an address.
func JoinedKind(winners []*Service) AddressKind {
	moves := func(s *Service) bool {
		return s.GetHeadless() || s.GetAddressKind() == AddressKind_ADDRESS_KIND_ENDPOINT
	}
	if slices.ContainsFunc(winners, moves) {
		return AddressKind_ADDRESS_KIND_ENDPOINT
	}
	kind := winners[0].GetAddressKind()
	for _, winner := range winners {
		switch awaited := kind == AddressKind_ADDRESS_KIND_PENDING; {
		case len(winner.GetAddresses()) > 0 && awaited:
			return winner.GetAddressKind()
		case len(winner.GetAddresses()) > 0:
			return kind
		case winner.GetAddressKind() == AddressKind_ADDRESS_KIND_PENDING:
			kind = AddressKind_ADDRESS_KIND_PENDING
		}
	}
	return kind
}
