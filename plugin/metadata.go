package meshvm

import (
	"context"
	"strings"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Labels of the metadata.
const (
	labelName      = pluginName + "/name"
	labelNamespace = pluginName + "/namespace"
	labelSource    = pluginName + "/source"
	labelKind      = pluginName + "/kind"
	labelStale     = pluginName + "/stale"
)

var _ metadata.Provider = (*Meshvm)(nil)

// Metadata implements metadata.Provider. A name in the plugin's zones, or of the mesh, gets the label
// meshvm/stale; the others need a host that answers. It is called for every query, before anyone knows
// which plugin will answer.
func (m *Meshvm) Metadata(ctx context.Context, request request.Request) context.Context {
	name := canonical(request.QName())
	host := m.hostAsked(m.follower.mirror.State(), name, request.QType())
	if host == nil && m.zoneOf(name) == nil {
		return ctx
	}
	stale := notStale
	if m.follower.staleFor() > m.config.MaxStale {
		stale = isStale
	}
	metadata.SetValueFunc(ctx, labelStale, stale)
	if host == nil {
		return ctx
	}
	metadata.SetValueFunc(ctx, labelName, func() string { return host.Name })
	metadata.SetValueFunc(ctx, labelNamespace, func() string { return host.Namespace })
	metadata.SetValueFunc(ctx, labelSource, func() string { return sources[host.Origin] })
	metadata.SetValueFunc(ctx, labelKind, func() string { return kindOf(host) })
	return ctx
}

func isStale() string  { return "true" }
func notStale() string { return "false" }

// hostAsked is the host of the mesh that a question is about: by its name, by one of its ports, or by an
// address. Nil: none.
func (m *Meshvm) hostAsked(state *mirror.State, name string, qtype uint16) *mirror.Host {
	zone := m.zoneOf(name)
	switch {
	case zone != nil && zone.reverse, zone == nil && qtype == dns.TypePTR:
		address, valid := reverseAddress(name)
		if !valid {
			return nil
		}
		if names := state.Pointers(address); len(names) > 0 {
			return state.Host(names[0])
		}
		return nil
	case zone == nil && qtype == dns.TypeSRV && strings.HasPrefix(name, "_"):
		if port, found := m.overlaidPort(state, name); found {
			return port.host
		}
		return nil
	}
	return m.hostOf(state, name)
}

// sources are the registries that hosts come from, by the words of the documentation.
var sources = map[registryv1.Origin]string{
	registryv1.Origin_ORIGIN_KUBERNETES:     "Kubernetes",
	registryv1.Origin_ORIGIN_SERVICE_ENTRY:  "ServiceEntry",
	registryv1.Origin_ORIGIN_SERVICE_IMPORT: "ServiceImport",
}

// Kinds of host, by what a query for their addresses gets.
const (
	kindHeadless     = "headless"
	kindExternalName = "external-name"
	kindNone         = "none"
)

// addressKinds are the kinds of hosts that have addresses of their own.
var addressKinds = map[registryv1.AddressKind]string{
	registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP: "cluster-ip",
	registryv1.AddressKind_ADDRESS_KIND_LITERAL:    "literal",
	registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP: "virtual-ip",
	registryv1.AddressKind_ADDRESS_KIND_ENDPOINT:   "endpoint",
	registryv1.AddressKind_ADDRESS_KIND_PENDING:    "pending",
}

func kindOf(host *mirror.Host) string {
	switch {
	case host.ExternalName != "":
		return kindExternalName
	case host.Headless:
		return kindHeadless
	}
	if kind, known := addressKinds[host.AddressKind]; known {
		return kind
	}
	return kindNone
}
