package source

import (
	"fmt"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// endpointSlice translates an EndpointSlice. Whether it yields anything, and who sees it, is its
// Service's to say.
func (t *Translator) endpointSlice(d *draft, slice *discoveryv1.EndpointSlice) {
	name := objectName{d.object.Namespace, d.object.Name}
	d.rejectName("metadata.name", name.name, wantSubdomain, validation.IsDNS1123Subdomain(name.name))
	d.rejectName("metadata.namespace", name.namespace, wantLabel, validation.IsDNS1123Label(name.namespace))
	const serviceField = "metadata.labels[" + discoveryv1.LabelServiceName + "]"
	service := slice.Labels[discoveryv1.LabelServiceName]
	switch {
	case service == "":
		d.report(Partial, serviceField, "it is not set, so the endpoints belong to no Service", "the name of a headless Service")
	case slice.AddressType == discoveryv1.AddressTypeFQDN:
		service = "" // Deprecated; no resolver of Kubernetes ever read it.
	default:
		d.rejectName(serviceField, service, wantLabel, validation.IsDNS1123Label(service))
	}
	if service == "" {
		if !d.rejected {
			t.unlinkSlice(name)
		}
		return
	}

	body := &registryv1.EndpointSlice{
		Namespace: name.namespace,
		Name:      name.name,
		Cluster:   t.options.Cluster,
		Service:   service,
		Endpoints: endpoints(d, slice),
		Ports:     slicePorts(d, slice.Ports),
	}
	if !d.rejected {
		d.check(registryv1.EndpointSliceKey(t.options.Cluster, name.namespace, name.name), &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: body}})
	}
	if d.rejected {
		return
	}
	owner := objectName{name.namespace, service}
	t.linkSlice(name, owner, body)
	d.resources = t.sliceUpdate(owner, body).Resources
}

func endpoints(d *draft, slice *discoveryv1.EndpointSlice) []*registryv1.Endpoint {
	var bits int
	switch slice.AddressType {
	case discoveryv1.AddressTypeIPv4:
		bits = 32
	case discoveryv1.AddressTypeIPv6:
		bits = 128
	default:
		d.reject("addressType", fmt.Sprintf("%q is no address type", string(slice.AddressType)), "IPv4, IPv6 or FQDN")
		return nil
	}
	translated := make([]*registryv1.Endpoint, 0, len(slice.Endpoints))
	for i, endpoint := range slice.Endpoints {
		field := fmt.Sprintf("endpoints[%d]", i)
		var addresses [][]byte
		for j, text := range endpoint.Addresses {
			address, err := parseAddress(text)
			if err == nil && address.BitLen() != bits {
				err = fmt.Errorf("it is not of the slice's addressType, %s", slice.AddressType)
			}
			if err != nil {
				d.reject(fmt.Sprintf("%s.addresses[%d]", field, j), fmt.Sprintf("%q: %v", text, err), "an "+string(slice.AddressType)+" address")
				continue
			}
			addresses = append(addresses, address.AsSlice())
		}
		var hostname string
		if endpoint.Hostname != nil {
			hostname = strings.ToLower(*endpoint.Hostname)
			if hostname != "" {
				d.rejectName(field+".hostname", *endpoint.Hostname, wantLabel, validation.IsDNS1123Label(hostname))
			}
		}
		// Unset means unknown, and Kubernetes has unknown read as ready and not terminating.
		ready := valueOr(endpoint.Conditions.Ready, true)
		translated = append(translated, &registryv1.Endpoint{
			Addresses:   addresses,
			Hostname:    hostname,
			Ready:       ready,
			Serving:     valueOr(endpoint.Conditions.Serving, ready),
			Terminating: valueOr(endpoint.Conditions.Terminating, false),
			Zone:        d.shown(field+".zone", valueOr(endpoint.Zone, "")),
			Node:        d.shown(field+".nodeName", valueOr(endpoint.NodeName, "")),
		})
	}
	return translated
}

func valueOr[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

func (t *Translator) linkSlice(name, service objectName, body *registryv1.EndpointSlice) {
	t.unlinkSlice(name)
	t.serviceOf[name] = service
	if t.slices[service] == nil {
		t.slices[service] = map[string]*registryv1.EndpointSlice{}
	}
	t.slices[service][name.name] = body
}

func (t *Translator) unlinkSlice(name objectName) {
	service, found := t.serviceOf[name]
	if !found {
		return
	}
	delete(t.serviceOf, name)
	delete(t.slices[service], name.name)
	if len(t.slices[service]) == 0 {
		delete(t.slices, service)
	}
}

// sliceUpdate is what a slice yields under its Service as that is now: nothing when it has cluster
// IPs, and something that nobody sees when it is not known.
func (t *Translator) sliceUpdate(service objectName, body *registryv1.EndpointSlice) registry.Update {
	update := registry.Update{Object: registry.Object{
		Kind:      KindEndpointSlice,
		Namespace: body.GetNamespace(),
		Name:      body.GetName(),
		Cluster:   t.options.Cluster,
	}}
	link := t.services[service]
	if link.known && !link.headless {
		return update
	}
	update.Resources = []registry.Resource{{
		Key:        registryv1.EndpointSliceKey(t.options.Cluster, body.GetNamespace(), body.GetName()),
		Visibility: link.visibility, // Nobody's, when the Service is not known.
		Body:       &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: body}},
	}}
	return update
}
