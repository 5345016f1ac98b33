package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// scan goes through everything that the namespace sees, until visit is satisfied. The registry has no
// index for what only people ask, so one request at a time does this.
func (e *explanation) scan(ctx context.Context, visit func(*registry.Entry, *registryv1.Body) (done bool)) error {
	select {
	case e.server.scans <- struct{}{}:
		defer func() { <-e.server.scans }()
	case <-ctx.Done():
		return fmt.Errorf("wait for another request that reads the whole registry: %w", context.Cause(ctx))
	}
	entries := e.server.registry.Content(e.Namespace).Entries
	slices.SortFunc(entries, func(a, b *registry.Entry) int { return cmp.Compare(a.Key, b.Key) })
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !e.scope.Sees(entry) {
			continue
		}
		body, err := decode(entry)
		if err != nil {
			return err
		}
		if visit(entry, body) {
			return nil
		}
	}
	return nil
}

// encloses names what is below a name that exists for that reason only, empty where nothing is.
func (e *explanation) encloses(ctx context.Context) (string, error) {
	because := ""
	err := e.scan(ctx, func(entry *registry.Entry, body *registryv1.Body) bool {
		below := body.GetService().GetHost()
		if body.GetNamespace() != nil {
			below = body.GetNamespace().GetName() + ".svc." + e.ClusterDomain
		}
		if below != "" && inDomain(below, e.Name) {
			because = objectOf(entry.Object).String()
		}
		return because != ""
	})
	return because, err
}

// explainAddress answers what an address points back to: the Service with this cluster IP (one only,
// as CoreDNS has it), then endpoints, then hosts of ServiceEntries.
func (e *explanation) explainAddress(ctx context.Context) error {
	hosts, headless := map[string]bool{}, map[string]*registryv1.Service{}
	slicesOf := map[string]bool{}
	err := e.scan(ctx, func(_ *registry.Entry, body *registryv1.Body) bool {
		if slice := body.GetEndpointSlice(); slice != nil && e.holdsEndpoint(slice) {
			slicesOf[serviceID(slice.GetCluster(), slice.GetNamespace(), slice.GetService())] = true
		}
		if service := body.GetService(); service != nil {
			if service.GetHeadless() {
				headless[serviceID(service.GetCluster(), service.GetNamespace(), service.GetName())] = service
			}
			if slices.ContainsFunc(service.GetAddresses(), e.isAsked) {
				hosts[service.GetHost()] = true
			}
		}
		return false
	})
	if err != nil {
		return err
	}
	for id := range slicesOf {
		if service := headless[id]; service != nil {
			hosts[service.GetHost()] = true
		}
	}
	return e.pointBack(hosts)
}

func serviceID(cluster, namespace, name string) string {
	return cluster + "/" + namespace + "/" + name
}

func (e *explanation) isAsked(encoded []byte) bool { return addressOf(encoded) == e.question.address }

func (e *explanation) holdsEndpoint(slice *registryv1.EndpointSlice) bool {
	return slices.ContainsFunc(slice.GetEndpoints(), func(endpoint *registryv1.Endpoint) bool {
		return slices.ContainsFunc(endpoint.GetAddresses(), e.isAsked)
	})
}

// pointer is a name that the address points back to.
type pointer struct {
	rank   int // the strongest first
	name   string
	object explain.Object
	kind   string
}

// pointBack answers with the names of those hosts that really answer with the address.
func (e *explanation) pointBack(hosts map[string]bool) error {
	var pointers []pointer
	for host := range hosts {
		if strings.HasPrefix(host, registryv1.WildcardPrefix) {
			continue
		}
		c, err := e.candidate(host)
		if err != nil {
			return err
		}
		names, err := e.pointersOf(c)
		if err != nil {
			return err
		}
		c.Chosen = len(names) > 0
		e.Candidates = append(e.Candidates, c.Candidate)
		pointers = append(pointers, names...)
	}
	slices.SortFunc(e.Candidates, func(a, b explain.Candidate) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortFunc(pointers, func(a, b pointer) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.name, b.name)) })
	e.answerPointers(pointers)
	return nil
}

// pointersOf are the names of a host that answer with the address.
func (e *explanation) pointersOf(c *candidate) ([]pointer, error) {
	if len(c.winners) == 0 {
		return nil, nil
	}
	service := c.winners[0]
	p := pointer{name: c.Host, kind: addressKinds[service.GetAddressKind()]}
	for _, claim := range c.Claims {
		if claim.Winner {
			p.object = claim.Object
			break
		}
	}
	if !service.GetHeadless() {
		if service.GetOrigin() == registryv1.Origin_ORIGIN_SERVICE_ENTRY {
			p.rank = 2
		}
		for _, winner := range c.winners {
			if slices.ContainsFunc(winner.GetAddresses(), e.isAsked) {
				return []pointer{p}, nil
			}
		}
		return nil, nil
	}
	first := len(e.Endpoints)
	if err := e.listEndpoints(service, c.Host); err != nil {
		return nil, err
	}
	p.rank, p.kind = 1, addressKinds[registryv1.AddressKind_ADDRESS_KIND_ENDPOINT]
	var pointers []pointer
	for _, endpoint := range e.Endpoints[first:] {
		for _, name := range endpoint.Names {
			named := addressesNamed(endpoint, name)
			if endpoint.Ready && slices.Contains(named, e.question.address.String()) {
				p.name = name
				pointers = append(pointers, p)
			}
		}
	}
	return pointers, nil
}

func (e *explanation) answerPointers(pointers []pointer) {
	if len(pointers) == 0 {
		e.Outcome, e.Reason = explain.PassedOn, fmt.Sprintf("no name that %s sees answers with this address", e.namespaceName())
		return
	}
	e.Outcome, e.AddressKind = explain.Answered, pointers[0].kind
	e.Reason = fmt.Sprintf("%s answers with this address", pointers[0].object)
	for i, p := range pointers {
		if i > 0 && p.rank == 0 {
			continue
		}
		record := explain.Record{Type: typePTR, Value: p.name}
		if !slices.Contains(e.Records, record) {
			e.Records = append(e.Records, record)
		}
		if !slices.Contains(e.Objects, p.object) {
			e.Objects = append(e.Objects, p.object)
		}
	}
}
