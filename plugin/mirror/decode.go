package mirror

import (
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// decoder decodes bodies one after the other, many times as fast as the general decoder, and without a
// trace in memory: what it returns is good until it decodes the next one, and its strings are parts of
// the encoded body. It knows the bodies that a syncer of this version sends; any other it leaves to the
// general decoder, so that there is no body on which the two differ.
type decoder struct {
	body      registryv1.Body
	service   registryv1.Body_Service
	slice     registryv1.Body_EndpointSlice
	namespace registryv1.Body_Namespace

	addresses []byte // what every address of the body is a part of
	ports     []*registryv1.Port
	endpoints []*registryv1.Endpoint
}

// decode is decodeBody.
func (d *decoder) decode(encoded string) (*registryv1.Body, error) {
	if d.known(encoded) {
		return &d.body, nil
	}
	return decodeBody([]byte(encoded))
}

// The fields of a Body.
const (
	bodyService       = 1
	bodyEndpointSlice = 2
	bodyNamespace     = 3
)

// known decodes a body into d, and reports whether it could.
func (d *decoder) known(encoded string) bool {
	fields := wire{rest: encoded}
	number, kind := fields.tag()
	content := fields.bytes()
	// One field only: two would be merged.
	if fields.bad || kind != wireBytes || fields.rest != "" {
		return false
	}
	d.addresses = d.addresses[:0]
	switch number {
	case bodyService:
		if d.service.Service == nil {
			d.service.Service = &registryv1.Service{}
		}
		d.body.Body = &d.service
		return d.knownService(content)
	case bodyEndpointSlice:
		if d.slice.EndpointSlice == nil {
			d.slice.EndpointSlice = &registryv1.EndpointSlice{}
		}
		d.body.Body = &d.slice
		return d.knownSlice(content)
	case bodyNamespace:
		if d.namespace.Namespace == nil {
			d.namespace.Namespace = &registryv1.Namespace{}
		}
		d.body.Body = &d.namespace
		return d.knownNamespace(content)
	}
	return false
}

func (d *decoder) knownService(content string) bool {
	s := d.service.Service
	s.Host, s.Namespace, s.Name, s.Cluster, s.ExternalName = "", "", "", "", ""
	s.Origin, s.AddressKind, s.Headless, s.CreatedAt, s.Derived, s.ExportedByName = 0, 0, false, 0, false, false
	s.Addresses, s.Ports = s.GetAddresses()[:0], s.GetPorts()[:0]
	fields := wire{rest: content}
	for fields.more() {
		switch number, kind := fields.tag(); {
		case number == 1 && kind == wireBytes:
			s.Host = fields.text()
		case number == 2 && kind == wireBytes:
			s.Namespace = fields.text()
		case number == 3 && kind == wireBytes:
			s.Name = fields.text()
		case number == 4 && kind == wireBytes:
			s.Cluster = fields.text()
		case number == 5 && kind == wireVarint:
			s.Origin = registryv1.Origin(fields.varint())
		case number == 6 && kind == wireBytes:
			s.Addresses = append(s.Addresses, d.address(fields.bytes()))
		case number == 7 && kind == wireVarint:
			s.AddressKind = registryv1.AddressKind(fields.varint())
		case number == 8 && kind == wireBytes:
			port := d.port(len(s.GetPorts()))
			s.Ports = append(s.Ports, port)
			if !knownPort(port, fields.bytes()) {
				return false
			}
		case number == 9 && kind == wireVarint:
			s.Headless = fields.varint() != 0
		case number == 10 && kind == wireBytes:
			s.ExternalName = fields.text()
		case number == 11 && kind == wireVarint:
			s.CreatedAt = int64(fields.varint())
		case number == 12 && kind == wireVarint:
			s.Derived = fields.varint() != 0
		case number == 13 && kind == wireVarint:
			s.ExportedByName = fields.varint() != 0
		default:
			return false
		}
	}
	return !fields.bad
}

func (d *decoder) knownSlice(content string) bool {
	s := d.slice.EndpointSlice
	s.Namespace, s.Name, s.Cluster, s.Service = "", "", "", ""
	s.Endpoints, s.Ports = s.GetEndpoints()[:0], s.GetPorts()[:0]
	fields := wire{rest: content}
	for fields.more() {
		switch number, kind := fields.tag(); {
		case number == 1 && kind == wireBytes:
			s.Namespace = fields.text()
		case number == 2 && kind == wireBytes:
			s.Name = fields.text()
		case number == 3 && kind == wireBytes:
			s.Cluster = fields.text()
		case number == 4 && kind == wireBytes:
			s.Service = fields.text()
		case number == 5 && kind == wireBytes:
			endpoint := d.endpoint(len(s.GetEndpoints()))
			s.Endpoints = append(s.Endpoints, endpoint)
			if !d.knownEndpoint(endpoint, fields.bytes()) {
				return false
			}
		case number == 6 && kind == wireBytes:
			port := d.port(len(s.GetPorts()))
			s.Ports = append(s.Ports, port)
			if !knownPort(port, fields.bytes()) {
				return false
			}
		default:
			return false
		}
	}
	return !fields.bad
}

func (d *decoder) knownEndpoint(e *registryv1.Endpoint, content string) bool {
	e.Hostname, e.Zone, e.Node, e.Name = "", "", "", ""
	e.Ready, e.Serving, e.Terminating = false, false, false
	e.Addresses = e.GetAddresses()[:0]
	fields := wire{rest: content}
	for fields.more() {
		switch number, kind := fields.tag(); {
		case number == 1 && kind == wireBytes:
			e.Addresses = append(e.Addresses, d.address(fields.bytes()))
		case number == 2 && kind == wireBytes:
			e.Hostname = fields.text()
		case number == 3 && kind == wireVarint:
			e.Ready = fields.varint() != 0
		case number == 4 && kind == wireVarint:
			e.Serving = fields.varint() != 0
		case number == 5 && kind == wireVarint:
			e.Terminating = fields.varint() != 0
		case number == 6 && kind == wireBytes:
			e.Zone = fields.text()
		case number == 7 && kind == wireBytes:
			e.Node = fields.text()
		case number == 8 && kind == wireBytes:
			e.Name = fields.text()
		default:
			return false
		}
	}
	return !fields.bad
}

func (d *decoder) knownNamespace(content string) bool {
	n := d.namespace.Namespace
	n.Name, n.Cluster = "", ""
	fields := wire{rest: content}
	for fields.more() {
		switch number, kind := fields.tag(); {
		case number == 1 && kind == wireBytes:
			n.Name = fields.text()
		case number == 2 && kind == wireBytes:
			n.Cluster = fields.text()
		default:
			return false
		}
	}
	return !fields.bad
}

func knownPort(p *registryv1.Port, content string) bool {
	p.Name, p.Number, p.Protocol, p.Target = "", 0, 0, 0
	fields := wire{rest: content}
	for fields.more() {
		switch number, kind := fields.tag(); {
		case number == 1 && kind == wireBytes:
			p.Name = fields.text()
		case number == 2 && kind == wireVarint:
			p.Number = uint32(fields.varint())
		case number == 3 && kind == wireVarint:
			p.Protocol = registryv1.Protocol(fields.varint())
		case number == 4 && kind == wireVarint:
			p.Target = uint32(fields.varint())
		default:
			return false
		}
	}
	return !fields.bad
}

// address is a copy of an address. It stays as it is until the next body.
func (d *decoder) address(encoded string) []byte {
	start := len(d.addresses)
	d.addresses = append(d.addresses, encoded...)
	return d.addresses[start:len(d.addresses):len(d.addresses)]
}

// port and endpoint are the i-th of the body's. Its fields are still those of an earlier one.

func (d *decoder) port(i int) *registryv1.Port {
	if i == len(d.ports) {
		d.ports = append(d.ports, &registryv1.Port{})
	}
	return d.ports[i]
}

func (d *decoder) endpoint(i int) *registryv1.Endpoint {
	if i == len(d.endpoints) {
		d.endpoints = append(d.endpoints, &registryv1.Endpoint{})
	}
	return d.endpoints[i]
}

// Wire types of the Protocol Buffers encoding.
const (
	wireVarint = 0
	wireBytes  = 2
)

// wire reads the Protocol Buffers encoding in the form that every encoder writes. What is allowed but
// unusual it calls bad. After that it reads zero values.
type wire struct {
	rest string
	bad  bool
}

func (w *wire) more() bool { return !w.bad && w.rest != "" }

func (w *wire) varint() uint64 {
	var value uint64
	for i := range len(w.rest) {
		// Ten bytes could hold more than 64 bits: rare, and a mistake.
		if i == 9 {
			break
		}
		b := w.rest[i]
		value |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			w.rest = w.rest[i+1:]
			return value
		}
	}
	w.bad, w.rest = true, ""
	return 0
}

func (w *wire) tag() (number, kind uint64) {
	tag := w.varint()
	return tag >> 3, tag & 7
}

func (w *wire) bytes() string {
	length := w.varint()
	if length > uint64(len(w.rest)) {
		w.bad, w.rest = true, ""
		return ""
	}
	field := w.rest[:length]
	w.rest = w.rest[length:]
	return field
}

// text is bytes that are ASCII, and so are UTF-8.
func (w *wire) text() string {
	field := w.bytes()
	for i := range len(field) {
		if field[i] >= 0x80 {
			w.bad, w.rest = true, ""
			return ""
		}
	}
	return field
}
