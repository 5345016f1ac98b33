package server

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// kindWorkloadEntry is the kind of the objects that are selected by others, and answer for these.
const kindWorkloadEntry = "WorkloadEntry"

// candidateHosts is the hosts that may answer a name, the closest match first.
func candidateHosts(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		// A wildcard covers its own spelling: as such it comes twice.
		skip := strings.HasPrefix(name, registryv1.WildcardPrefix)
		for host := range registryv1.CandidateHosts(name) {
			if !skip && !yield(host) {
				return
			}
			skip = false
		}
	}
}

// outsideZone reports whether a host counts only in the cluster's zone but is not in it.
func (e *explanation) outsideZone(c *candidate) bool {
	return !e.inZone() && !c.wildcard() && c.winners[0].GetOrigin() == registryv1.Origin_ORIGIN_KUBERNETES
}

// hide notes why a candidate that nobody sees does not answer.
func (e *explanation) hide(c *candidate) {
	switch {
	case len(c.winners) > 0:
	case c.Claims[0].Object.Kind == kindWorkloadEntry && c.Claims[0].ExportTo == registry.Nobody().String():
		e.suggest(fmt.Sprintf("%s is %s, which is not healthy or not exported", e.nameOf(c.Host), c.Claims[0].Object))
	default:
		e.suggest(fmt.Sprintf("%s claims %s, but is %s", c.Claims[0].Object, e.nameOf(c.Host), e.unseen(c.Claims[0])))
	}
}

// nameOf is a host for people who know what they asked for.
func (e *explanation) nameOf(host string) string {
	if host == e.Name {
		return "it"
	}
	return host
}

// suggest notes why the closest match does not answer.
func (e *explanation) suggest(hint string) { e.hint = cmp.Or(e.hint, hint) }

// candidate is a host with its claims ruled on.
type candidate struct {
	explain.Candidate
	winners []*registryv1.Service
	reason  string
}

func (c *candidate) wildcard() bool { return strings.HasPrefix(c.Host, registryv1.WildcardPrefix) }

// headless reports whether a host is answered by its endpoints.
func (c *candidate) headless() bool { return c.winners[0].GetHeadless() && !c.wildcard() }

// addressed reports whether a host has an address of its own.
func (c *candidate) addressed() bool {
	return slices.ContainsFunc(c.winners, func(s *registryv1.Service) bool { return len(s.GetAddresses()) > 0 })
}

// joinedKind is what the winners' addresses are. A headless Service's are its endpoints', and said elsewhere.
func (c *candidate) joinedKind() registryv1.AddressKind {
	if c.winners[0].GetHeadless() {
		return c.winners[0].GetAddressKind()
	}
	return registryv1.JoinedKind(c.winners)
}

// awaited reports whether a host has no address because its virtual IP is still to come.
func (c *candidate) awaited() bool {
	return c.joinedKind() == registryv1.AddressKind_ADDRESS_KIND_PENDING && !c.addressed()
}

// object is the first winner's.
func (c *candidate) object() explain.Object {
	i := slices.IndexFunc(c.Claims, func(claim explain.Claim) bool { return claim.Winner })
	return c.Claims[i].Object
}

// candidate rules on the claims of a host, nil where there are none.
func (e *explanation) candidate(host string) (*candidate, error) {
	entries := e.server.registry.Lookup(host)
	if len(entries) == 0 {
		return nil, nil
	}
	services := make([]*registryv1.Service, len(entries))
	var visible []*registryv1.Service
	for i, entry := range entries {
		body, err := decode(entry)
		if err != nil {
			return nil, err
		}
		services[i] = body.GetService()
		if e.sees(entry) {
			visible = append(visible, services[i])
		}
	}
	ruling := registryv1.ResolveClaims(visible, e.Namespace)
	c := &candidate{winners: ruling.Winners, reason: ruling.Reason}
	c.Host = host
	// In order of precedence, and what is hidden last.
	ranked := slices.Concat(ruling.Winners, ruling.Losers)
	for _, service := range ranked {
		i := slices.Index(services, service)
		c.Claims = append(c.Claims, e.claim(entries[i], service, ruling))
	}
	for i, service := range services {
		if !slices.Contains(ranked, service) {
			c.Claims = append(c.Claims, e.claim(entries[i], service, ruling))
		}
	}
	return c, nil
}

func decode(entry *registry.Entry) (*registryv1.Body, error) {
	body := &registryv1.Body{}
	if err := proto.Unmarshal(entry.Body, body); err != nil {
		return nil, fmt.Errorf("decode resource %s: %w", entry.Key, err)
	}
	return body, nil
}

func objectOf(o registry.Object) explain.Object {
	return explain.Object{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Cluster: o.Cluster}
}

func (e *explanation) claim(entry *registry.Entry, service *registryv1.Service, ruling registryv1.Ruling) explain.Claim {
	claim := explain.Claim{
		Key:          entry.Key,
		Object:       objectOf(entry.Object),
		ExportTo:     entry.Visibility.String(),
		Visible:      e.sees(entry),
		Hidden:       e.hidden(entry),
		Winner:       slices.Contains(ruling.Winners, service),
		AddressKind:  addressKinds[service.GetAddressKind()],
		Headless:     service.GetHeadless(),
		ExternalName: service.GetExternalName(),
	}
	if service.GetCreatedAt() != 0 {
		created := time.Unix(service.GetCreatedAt(), 0).UTC()
		claim.CreatedAt = &created
	}
	claim.Ports = portsOf(service.GetPorts())
	for _, encoded := range service.GetAddresses() {
		claim.Addresses = append(claim.Addresses, addressOf(encoded).String())
	}
	workload := entry.Object.Kind == kindWorkloadEntry
	switch {
	case workload && claim.ExportTo == registry.Nobody().String():
		claim.Reason = "it is not healthy, or what selects it is exported to nobody"
	case !claim.Visible:
		claim.Reason = e.unseen(claim)
	case workload && claim.Winner && service.GetDerived():
		claim.Reason = "it is the workload's own name"
	case workload && claim.Winner:
		claim.Reason = fmt.Sprintf("ServiceEntry %s/%s selects it", service.GetNamespace(), service.GetName())
	case claim.Winner && joined(ruling.Winners):
		claim.Reason = "joined with the other ServiceEntries of its namespace"
	case claim.Winner && ruling.Reason == "":
		claim.Reason = "nobody else that is visible claims the host"
	default:
		claim.Reason = ruling.Reason
	}
	return claim
}

// joined reports whether the claims are of several ServiceEntries. The workloads that one selects have its name.
func joined(winners []*registryv1.Service) bool {
	return slices.ContainsFunc(winners, func(s *registryv1.Service) bool {
		return s.GetName() != winners[0].GetName() || s.GetCluster() != winners[0].GetCluster()
	})
}

func (e *explanation) namespaceName() string {
	if e.Namespace == "" {
		return "a VM without a namespace"
	}
	return e.Namespace
}

func exportedTo(claim explain.Claim) string {
	if claim.ExportTo == registry.Nobody().String() {
		return "nobody"
	}
	return claim.ExportTo + " only"
}
