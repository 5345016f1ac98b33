package server

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	// above is what makes the name exist where it is between an endpoint's and that of its Service.
	above string
	// scope is what the VM sees its view through.
	scope *registry.Scope
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
	e.narrow()
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

// asksServices reports whether SRV records are asked for.
func (e *explanation) asksServices() bool { return slices.Contains(e.Types, typeSRV) }

// explainName goes through what may answer, the closest match first.
func (e *explanation) explainName(ctx context.Context) error {
	if !e.inZone() && e.asksServices() && strings.HasPrefix(e.Name, "_") {
		return e.overlaidPort()
	}
	for host := range candidateHosts(e.Name) {
		c, err := e.candidate(host)
		if err != nil {
			return err
		}
		if c != nil {
			c.Chosen = e.Host == "" && len(c.winners) > 0 && !e.outsideZone(c)
			e.Candidates = append(e.Candidates, c.Candidate)
			if !c.Chosen {
				e.hide(c)
			} else if err := e.answer(c); err != nil {
				return err
			}
		}
		// Endpoints and ports come after their own names and before any wildcard.
		if host == e.Name && e.Host == "" {
			if found, err := e.partName(); found || err != nil {
				return err
			}
		}
	}
	if e.Host != "" {
		return nil
	}
	return e.unknown(ctx)
}

// partName answers a name that is a part of a Service, and reports whether it is one.
func (e *explanation) partName() (bool, error) {
	if found, err := e.endpointName(); found || err != nil {
		return found, err
	}
	return e.portName()
}

// answer takes a host's winners to the records.
func (e *explanation) answer(c *candidate) error {
	e.choose(c)
	first := c.winners[0]
	var addresses []netip.Addr
	switch {
	case first.GetExternalName() != "" && e.inZone():
		e.Outcome, e.Reason = explain.Answered, fmt.Sprintf("%s is an alias: the VM resolves its target in turn", e.Objects[0])
		e.Records = []explain.Record{{Type: typeCNAME, Value: first.GetExternalName()}}
		return nil
	case c.headless():
		if err := e.listEndpoints(first, c.Host); err != nil {
			return err
		}
		e.AddressKind = addressKinds[registryv1.AddressKind_ADDRESS_KIND_ENDPOINT]
		if addresses = e.readyEndpoints(); len(addresses) == 0 {
			e.Outcome, e.Reason = explain.NameError, fmt.Sprintf("%s is headless and has no ready endpoint", e.Objects[0])
			return nil
		}
	case c.awaited() && (e.inZone() || e.Types[0] != typeCNAME):
		e.Outcome, e.Reason = explain.NoData, fmt.Sprintf("%s has no virtual IP yet: the VM says for a while that there is no address", e.Objects[0])
		return nil
	case !e.inZone() && !c.addressed():
		e.unaddressed()
		return nil
	}
	found := e.targetsOf(c, portName{})
	switch {
	case e.asksServices():
		e.services(found)
	case c.headless():
		e.addresses(addresses)
	default:
		e.addresses(found.addresses)
	}
	return nil
}

// unaddressed passes on what is asked of a host without address outside the cluster's zone.
func (e *explanation) unaddressed() {
	e.Outcome, e.Reason = explain.PassedOn, fmt.Sprintf("%s has no address: the VM asks its upstream servers", e.Objects[0])
}

// choose makes a candidate the one that answers.
func (e *explanation) choose(c *candidate) {
	e.Host = c.Host
	for _, claim := range c.Claims {
		if claim.Winner {
			e.Objects = append(e.Objects, claim.Object)
		}
	}
	e.AddressKind = addressKinds[c.joinedKind()]
	e.Reason = fmt.Sprintf("%s claims it", e.Objects[0])
	if c.wildcard() && c.Host != e.Name {
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
	default:
		e.Outcome, e.Reason = explain.NoData, fmt.Sprintf("%s has no address", e.Objects[0])
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
	below, err := e.protocolName()
	below = cmp.Or(below, e.above)
	if below == "" && err == nil {
		below, err = e.encloses(ctx)
	}
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
