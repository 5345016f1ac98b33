package server

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// explanation is one Explanation in the making. It follows the steps of a VM's answer: its mirror's
// choice of a host, then the rules of its zones.
type explanation struct {
	server   *Server
	question question
	// hint is why the closest match does not answer, for when nothing else does.
	hint string
	explain.Explanation
}

// explain says what a VM answers and why.
func (s *Server) explain(ctx context.Context, q question) (explain.Explanation, error) {
	e := explanation{server: s, question: q, Explanation: explain.Explanation{
		Name:          q.name,
		Types:         q.types,
		Namespace:     q.namespace,
		Revision:      s.registry.Revision(),
		ClusterDomain: s.opts.ClusterDomain,
	}}
	select {
	case <-s.registry.Ready():
		e.Ready = true
	default:
	}
	var err error
	if q.address.IsValid() {
		err = e.explainAddress(ctx)
	} else {
		err = e.explainName(ctx)
	}
	return e.Explanation, err
}

func (e *explanation) inZone() bool { return inDomain(e.Name, e.ClusterDomain) }

// explainName goes through the hosts that may answer, the closest match first.
func (e *explanation) explainName(ctx context.Context) error {
	first := true
	for host := range registryv1.CandidateHosts(e.Name) {
		if first && strings.HasPrefix(host, registryv1.WildcardPrefix) {
			first = false
			continue // a wildcard covers its own spelling: its turn comes next
		}
		first = false
		c, err := e.candidate(host)
		if err != nil {
			return err
		}
		if c == nil {
			if host == e.Name {
				if found, err := e.endpointName(); found || err != nil {
					return err
				}
			}
			continue
		}
		chosen := e.Host == "" && len(c.winners) > 0 && !e.outsideZone(c)
		c.Chosen = chosen
		e.Candidates = append(e.Candidates, c.Candidate)
		if chosen {
			if err := e.answer(c); err != nil {
				return err
			}
		} else if len(c.winners) == 0 && e.hint == "" {
			e.hint = fmt.Sprintf("%s claims it, but is exported to %s, not to %s", c.Claims[0].Object, exportedTo(c.Claims[0]), e.namespaceName())
		}
		// An endpoint comes after its own name and before any wildcard.
		if host == e.Name && e.Host == "" {
			if found, err := e.endpointName(); found || err != nil {
				return err
			}
		}
	}
	if e.Host != "" {
		return nil
	}
	return e.unknown(ctx)
}

// outsideZone reports whether a host counts only in the cluster's zone but is not in it.
func (e *explanation) outsideZone(c *candidate) bool {
	return !e.inZone() && c.Host == e.Name && c.winners[0].GetOrigin() == registryv1.Origin_ORIGIN_KUBERNETES
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

// candidate is a host with its claims ruled on.
type candidate struct {
	explain.Candidate
	winners []*registryv1.Service
	reason  string
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
		if entry.Visibility.In(e.Namespace) {
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
		Visible:      entry.Visibility.In(e.Namespace),
		Winner:       slices.Contains(ruling.Winners, service),
		AddressKind:  addressKinds[service.GetAddressKind()],
		Headless:     service.GetHeadless(),
		ExternalName: service.GetExternalName(),
	}
	if service.GetCreatedAt() != 0 {
		created := time.Unix(service.GetCreatedAt(), 0).UTC()
		claim.CreatedAt = &created
	}
	for _, encoded := range service.GetAddresses() {
		claim.Addresses = append(claim.Addresses, addressOf(encoded).String())
	}
	switch {
	case !claim.Visible:
		claim.Reason = fmt.Sprintf("exported to %s, not to %s", exportedTo(claim), e.namespaceName())
	case claim.Winner && len(ruling.Winners) > 1:
		claim.Reason = "joined with the other ServiceEntries of its namespace"
	case claim.Winner && ruling.Reason == "":
		claim.Reason = "nobody else that is visible claims the host"
	default:
		claim.Reason = ruling.Reason
	}
	return claim
}

// answer takes a host's winners to the records.
func (e *explanation) answer(c *candidate) error {
	e.choose(c)
	first := c.winners[0]
	switch {
	case first.GetHeadless() && !strings.HasPrefix(c.Host, registryv1.WildcardPrefix):
		if err := e.listEndpoints(first, c.Host); err != nil {
			return err
		}
		e.AddressKind = addressKinds[registryv1.AddressKind_ADDRESS_KIND_ENDPOINT]
		ready := e.readyEndpoints()
		if len(ready) == 0 {
			e.Outcome, e.Reason = explain.NameError, fmt.Sprintf("%s is headless and has no ready endpoint", e.Objects[0])
			return nil
		}
		e.addresses(ready)
	case first.GetExternalName() != "" && e.inZone():
		e.Outcome, e.Reason = explain.Answered, fmt.Sprintf("%s is an alias: the VM resolves its target in turn", e.Objects[0])
		e.Records = []explain.Record{{Type: typeCNAME, Value: first.GetExternalName()}}
	default:
		var addresses []netip.Addr
		for _, winner := range c.winners {
			for _, encoded := range winner.GetAddresses() {
				addresses = append(addresses, addressOf(encoded))
			}
		}
		e.addresses(addresses)
	}
	return nil
}

// choose makes a candidate the one that answers.
func (e *explanation) choose(c *candidate) {
	e.Host = c.Host
	for _, claim := range c.Claims {
		if claim.Winner {
			e.Objects = append(e.Objects, claim.Object)
		}
	}
	e.AddressKind = addressKinds[c.winners[0].GetAddressKind()]
	for _, winner := range c.winners {
		if winner.GetAddressKind() == registryv1.AddressKind_ADDRESS_KIND_ENDPOINT {
			e.AddressKind = addressKinds[winner.GetAddressKind()]
		}
	}
	e.Reason = fmt.Sprintf("%s claims it", e.Objects[0])
	if strings.HasPrefix(c.Host, registryv1.WildcardPrefix) && c.Host != e.Name {
		e.Reason = fmt.Sprintf("%s claims %s, the closest wildcard", e.Objects[0], c.Host)
	}
	if c.reason != "" {
		e.Reason += "; " + c.reason
	}
}

// addresses answers with those addresses that are of a type asked for.
func (e *explanation) addresses(addresses []netip.Addr) {
	for _, address := range addresses {
		record := explain.Record{Type: recordTypeOf(address), Value: address.String()}
		if slices.Contains(e.Types, record.Type) && !slices.Contains(e.Records, record) {
			e.Records = append(e.Records, record)
		}
	}
	switch {
	case len(e.Records) > 0:
		e.Outcome = explain.Answered
	case len(addresses) > 0 && !e.inZone() && e.Types[0] == typeCNAME:
		e.Outcome, e.Reason = explain.PassedOn, "the mesh says only which addresses the host has"
	case len(addresses) > 0:
		e.Outcome, e.Reason = explain.NoData, fmt.Sprintf("%s has no %s record", e.Objects[0], strings.Join(e.Types, " or "))
	case e.inZone():
		e.Outcome, e.Reason = explain.NoData, fmt.Sprintf("%s has no address", e.Objects[0])
	default:
		e.Outcome, e.Reason = explain.PassedOn, fmt.Sprintf("%s has no address: the VM asks its upstream servers", e.Objects[0])
	}
}

// unknown says what a name is that no visible host answers.
func (e *explanation) unknown(ctx context.Context) error {
	if !e.inZone() {
		e.Outcome, e.Reason = explain.PassedOn, cmp.Or(e.hint, "nothing in the mesh claims it")
		return nil
	}
	if e.Name == e.ClusterDomain {
		e.Outcome, e.Reason = explain.NoData, "it is the cluster's zone itself"
		return nil
	}
	below, err := e.encloses(ctx)
	switch {
	case err != nil:
		return err
	case below != "":
		e.Outcome, e.Reason = explain.NoData, "it is there only because of "+below
	default:
		nothing := fmt.Sprintf("nothing in the mesh claims it, and %s is the mesh's own", e.ClusterDomain)
		e.Outcome, e.Reason = explain.NameError, cmp.Or(e.hint, nothing)
	}
	return nil
}
