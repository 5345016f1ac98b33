package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// EgressListener is what one egress listener of an Istio Sidecar imports.
type EgressListener struct {
	// Port that a service must have to be imported. Zero: any.
	Port  uint32
	Hosts []EgressHost
}

// Scope narrows a view to the services that the egress listeners of a Sidecar import, be it one of them. It is
// immutable. Nil hides nothing.
//
// A service is imported when its host is covered by an entry for its namespace or for all of them, it has the
// listener's port, and no entry of the listener takes it out. What belongs to a service goes with it; a slice
// of endpoints does so whatever the ports, as without its Service it is no answer. Namespaces are never
// hidden: an Envoy does not know them, and that one exists only makes the absence of names in it NODATA.
//
// This is for what an Envoy routes, not for secrecy: a VM may see what is exported to it, whatever its
// Sidecar.
type Scope struct {
	id        string
	listeners []listener
}

// NewScope is the scope of the listeners of one Sidecar, in whatever order. Two of the same listeners have the
// same ID.
func NewScope(listeners []EgressListener) *Scope {
	texts := make([]string, 0, len(listeners))
	scope := &Scope{listeners: make([]listener, 0, len(listeners))}
	for _, l := range listeners {
		hosts := make([]string, 0, len(l.Hosts))
		for _, host := range l.Hosts {
			hosts = append(hosts, host.String())
		}
		slices.Sort(hosts)
		texts = append(texts, fmt.Sprintf("%d %s\n", l.Port, strings.Join(slices.Compact(hosts), " ")))
		scope.listeners = append(scope.listeners, newListener(l))
	}
	slices.Sort(texts)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(texts), "")))
	scope.id = hex.EncodeToString(sum[:16])
	return scope
}

// ID tells scopes apart by their content. That of no scope is empty.
func (s *Scope) ID() string {
	if s == nil {
		return ""
	}
	return s.id
}

// Sees reports whether the scope shows the resource. It can tell only what Options.Scopes has the registry
// keep.
func (s *Scope) Sees(e *Entry) bool { return s.sees(e.destination) }

func (s *Scope) sees(d *Destination) bool {
	return s == nil || d == nil || slices.ContainsFunc(s.listeners, func(l listener) bool { return l.imports(d) })
}

// namespaces are those that anything can be imported from, nil where that may be all.
func (s *Scope) namespaces() map[string]bool {
	names := map[string]bool{}
	for _, l := range s.listeners {
		for name, hosts := range l.namespaces {
			switch {
			case len(hosts.imported.exact)+len(hosts.imported.suffixes) == 0:
			case name == anyNamespace:
				return nil
			default:
				names[name] = true
			}
		}
	}
	return names
}

// listener is an EgressListener for quick decisions.
type listener struct {
	port       uint32
	namespaces map[string]*listenerHosts
}

// listenerHosts are a listener's entries for one namespace, or for any.
type listenerHosts struct{ imported, excluded hostSet }

var noHosts = &listenerHosts{}

func newListener(from EgressListener) listener {
	l := listener{port: from.Port, namespaces: map[string]*listenerHosts{}}
	for _, host := range from.Hosts {
		hosts := l.namespaces[host.Namespace]
		if hosts == nil {
			hosts = &listenerHosts{}
			l.namespaces[host.Namespace] = hosts
		}
		if host.Exclude {
			hosts.excluded.add(host.Host)
		} else {
			hosts.imported.add(host.Host)
		}
	}
	return l
}

func (l listener) of(namespace string) *listenerHosts {
	if hosts := l.namespaces[namespace]; hosts != nil {
		return hosts
	}
	return noHosts
}

func (l listener) imports(d *Destination) bool {
	if l.port != 0 && d.Ports != nil && !slices.Contains(d.Ports, l.port) {
		return false
	}
	own, all := l.of(d.namespace), l.of(anyNamespace)
	if own.excluded.covers(d.Host) || all.excluded.covers(d.Host) {
		return false
	}
	return own.imported.covers(d.Host) || all.imported.covers(d.Host)
}

// Destination is the service that a resource belongs to, as a Scope matches it.
type Destination struct {
	// Host of the service.
	Host string
	// Ports are the numbers of its ports. Nil: they are not known, and any matches.
	Ports []uint32

	namespace string // of the object
}

func (d *Destination) equal(other *Destination) bool {
	if d == nil || other == nil {
		return d == other
	}
	return d.Host == other.Host && d.namespace == other.namespace && (d.Ports == nil) == (other.Ports == nil) && slices.Equal(d.Ports, other.Ports)
}

// destinationOf is what a Scope goes by, nil where no scope hides the resource.
func destinationOf(object Object, resource Resource) *Destination {
	d := &Destination{namespace: object.Namespace}
	service := resource.Body.GetService()
	switch {
	case resource.Destination != nil:
		d.Host, d.Ports = resource.Destination.Host, resource.Destination.Ports
	case service != nil:
		d.Host, d.Ports = service.GetHost(), portNumbers(service.GetPorts())
	case resource.Body.GetEndpointSlice() == nil:
		return nil
	}
	return d
}

func portNumbers(ports []*registryv1.Port) []uint32 {
	numbers := make([]uint32, 0, len(ports))
	for _, port := range ports {
		numbers = append(numbers, port.GetNumber())
	}
	return numbers
}
