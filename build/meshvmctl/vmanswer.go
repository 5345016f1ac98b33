package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// answer is what a VM that holds the state answers, with a Corefile that sets nothing but the zone.
func (l *lookup) answer(state *mirror.State) (explain.Explanation, error) {
	e := explain.Explanation{
		Name:          l.name,
		Types:         []string{"A", "AAAA"},
		Namespace:     state.View(),
		Ready:         true,
		Revision:      state.Position().GetRevision(),
		ClusterDomain: state.ClusterDomain(),
	}
	port, isPort := cutPort(l.name)
	address, reverse := reverseAddress(l.name)
	switch {
	case l.recordType != "":
		e.Types = []string{l.recordType}
	case reverse:
		e.Types = []string{"PTR"}
	case isPort && port.underscored:
		e.Types = []string{"SRV"}
	}
	if e.Types[0] == "PTR" {
		if !reverse {
			return e, usageError{fmt.Errorf("%q: for PTR want an address, or its name below in-addr.arpa or ip6.arpa", l.name)}
		}
		answerAddress(&e, state, address)
		return e, nil
	}
	if _, valid := dns.IsDomainName(l.name); !valid {
		return e, usageError{fmt.Errorf("%q is no domain name", l.name)}
	}
	answerName(&e, state)
	return e, nil
}

// reverseAddress is the address that a name is, or is the reverse name of.
func reverseAddress(name string) (netip.Addr, bool) {
	if address, err := netip.ParseAddr(name); err == nil {
		return address.Unmap().WithZone(""), true
	}
	labels := dns.SplitDomainName(name)
	slices.Reverse(labels)
	switch {
	case len(labels) == 6 && labels[0] == "arpa" && labels[1] == "in-addr":
		address, err := netip.ParseAddr(strings.Join(labels[2:], "."))
		return address, err == nil
	case len(labels) == 34 && labels[0] == "arpa" && labels[1] == "ip6":
		groups := make([]string, 0, 8)
		for group := range slices.Chunk(labels[2:], 4) {
			groups = append(groups, strings.Join(group, ""))
		}
		address, err := netip.ParseAddr(strings.Join(groups, ":"))
		return address, err == nil
	}
	return netip.Addr{}, false
}

func answerAddress(e *explain.Explanation, state *mirror.State, address netip.Addr) {
	for _, name := range state.Pointers(address) {
		e.Records = append(e.Records, explain.Record{Type: "PTR", Value: name, TTL: defaultTTL})
		if host := state.Host(name); host != nil {
			e.Objects = append(e.Objects, objectOf(host))
		}
	}
	e.Objects = slices.Compact(e.Objects)
	if len(e.Records) == 0 {
		e.Outcome, e.Reason = explain.PassedOn, "no name in this view answers with this address"
		return
	}
	e.Outcome, e.Reason = explain.Answered, "these names answer with this address"
}

func answerName(e *explain.Explanation, state *mirror.State) {
	inZone := dns.IsSubDomain(dns.Fqdn(e.ClusterDomain), dns.Fqdn(e.Name))
	if !inZone && e.Types[0] == "SRV" && strings.HasPrefix(e.Name, "_") {
		answerOverlaidPort(e, state)
		return
	}
	if host := exactHost(state, e.Name, inZone); host != nil {
		answerHost(e, state, host, inZone)
		return
	}
	if inZone && answerPort(e, state) {
		return
	}
	host := state.Wildcard(e.Name)
	switch {
	case host != nil:
		answerHost(e, state, host, inZone)
	case !inZone:
		e.Outcome, e.Reason = explain.PassedOn, "nothing that this view sees claims it"
	case e.Name == e.ClusterDomain || state.Encloses(e.Name) || isProtocol(state, e.Name):
		e.Outcome, e.Reason = explain.NoData, "it is there only because of names below it"
	default:
		e.Outcome, e.Reason = explain.NameError, "nothing that this view sees claims it"
	}
}

// exactHost is the host of just this name. Kubernetes Services are known only in the cluster's zone.
func exactHost(state *mirror.State, name string, inZone bool) *mirror.Host {
	host := state.Host(name)
	if host != nil && !inZone && host.Origin == registryv1.Origin_ORIGIN_KUBERNETES {
		return nil
	}
	return host
}

// kinds are the kinds of address for people.
var kinds = map[registryv1.AddressKind]string{
	registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP: "cluster IP",
	registryv1.AddressKind_ADDRESS_KIND_LITERAL:    "literal",
	registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP: "virtual IP",
	registryv1.AddressKind_ADDRESS_KIND_ENDPOINT:   "endpoint",
	registryv1.AddressKind_ADDRESS_KIND_PENDING:    "virtual IP awaited",
}

func objectOf(host *mirror.Host) explain.Object {
	kind := map[registryv1.Origin]string{
		registryv1.Origin_ORIGIN_SERVICE_ENTRY:  "ServiceEntry",
		registryv1.Origin_ORIGIN_SERVICE_IMPORT: "ServiceImport",
	}[host.Origin]
	return explain.Object{Kind: cmp.Or(kind, "Service"), Namespace: host.Namespace, Name: host.Name}
}

func addressed(host *mirror.Host) bool { return host.A != nil || host.AAAA != nil }

// awaited reports whether a host has no address because its virtual IP is still to come.
func awaited(host *mirror.Host) bool {
	return host.AddressKind == registryv1.AddressKind_ADDRESS_KIND_PENDING && !addressed(host)
}

// choose makes a host the one that answers.
func choose(e *explain.Explanation, host *mirror.Host) {
	e.Host = strings.TrimSuffix(host.FQDN(), ".")
	e.AddressKind = kinds[host.AddressKind]
	e.Objects = []explain.Object{objectOf(host)}
	e.Reason = fmt.Sprintf("%s claims %s", e.Objects[0], e.Host)
}

func answerHost(e *explain.Explanation, state *mirror.State, host *mirror.Host, inZone bool) {
	choose(e, host)
	switch object := e.Objects[0]; {
	case host.ExternalName != "" && inZone:
		e.Outcome, e.Reason = explain.Answered, fmt.Sprintf("%s is an alias: the VM resolves its target in turn", object)
		e.Records = []explain.Record{{Type: "CNAME", Value: host.ExternalName, TTL: defaultTTL}}
		return
	case !inZone && (!addressed(host) && !awaited(host) || e.Types[0] == "CNAME"):
		e.Outcome, e.Reason = explain.PassedOn, fmt.Sprintf("%s has no such record: the VM asks its upstream servers", object)
		return
	case awaited(host):
		e.Outcome, e.Reason = explain.NoData, fmt.Sprintf("%s has no virtual IP yet: the VM says for a while that there is no address", object)
		return
	case host.Headless && !addressed(host):
		e.Outcome, e.Reason = explain.NameError, fmt.Sprintf("%s is headless and has no ready endpoint", object)
		return
	case e.Types[0] == "SRV":
		e.Records = services(state, portName{host: host, service: e.Name})
	default:
		for _, set := range []*mirror.RRset{host.A, host.AAAA} {
			e.Records = append(e.Records, records(set, e.Types)...)
		}
	}
	concludeRecords(e)
}

// concludeRecords says whether the chosen host has records of the types asked for.
func concludeRecords(e *explain.Explanation) {
	e.Outcome = explain.Answered
	if len(e.Records) == 0 {
		e.Outcome, e.Reason = explain.NoData, fmt.Sprintf("%s has no %s record", e.Objects[0], strings.Join(e.Types, " or "))
	}
}

// records of a set whose type is asked for.
func records(set *mirror.RRset, types []string) []explain.Record {
	if set == nil {
		return nil
	}
	var list []explain.Record
	for _, rr := range set.RRs {
		record := explain.Record{Type: dns.TypeToString[rr.Header().Rrtype], TTL: rr.Header().Ttl}
		switch rr := rr.(type) {
		case *dns.A:
			record.Value = rr.A.String()
		case *dns.AAAA:
			record.Value = rr.AAAA.String()
		}
		if slices.Contains(types, record.Type) {
			list = append(list, record)
		}
	}
	return list
}
