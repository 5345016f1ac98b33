package meshvm

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

var _ transfer.Transferer = (*Meshvm)(nil)

var errNotLoaded = errors.New("no registry has been loaded yet")

// transfers are the zone transfers of an instance that are under way.
type transfers struct {
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

// stop breaks off what is under way. A client sees that the last SOA record is missing.
func (t *transfers) stop() {
	t.cancel()
	t.tasks.Wait()
}

// Transfer implements transfer.Transferer. It sends a zone as one revision of the registry has it, whatever
// changes meanwhile: SOA, name servers, then every name that a query can find, in order, and SOA again. A
// secondary that has the serial already (RFC 1995, section 2) gets the SOA alone. Ports that were asked for
// without underscores, and SRV records below a wildcard, cannot be said in a zone and are left out.
func (m *Meshvm) Transfer(fqdn string, serial uint32) (<-chan []dns.RR, error) {
	name := canonical(fqdn)
	i := slices.IndexFunc(m.zones, func(z zone) bool { return z.name == name })
	if i < 0 {
		return nil, transfer.ErrNotAuthoritative
	}
	t := &zoneTransfer{Meshvm: m, zone: &m.zones[i], state: m.follower.mirror.State()}
	switch {
	case !t.state.Loaded():
		return nil, fmt.Errorf("transfer zone %s: %w", fqdn, errNotLoaded)
	case m.tooStale():
		return nil, fmt.Errorf("transfer zone %s: the registry is older than max_stale", fqdn)
	}
	records := make(chan []dns.RR)
	m.transfers.tasks.Go(func() {
		defer close(records)
		t.send(m.transfers.ctx, records, serial)
	})
	return records, nil
}

// zoneTransfer is one transfer of one zone.
type zoneTransfer struct {
	*Meshvm
	zone  *zone
	state *mirror.State
}

// send sends what a secondary with the serial lacks, or as much as there is time for.
func (t *zoneTransfer) send(ctx context.Context, to chan<- []dns.RR, serial uint32) {
	for records := range t.records(serial) {
		select {
		case to <- records:
		case <-ctx.Done():
			return
		}
	}
}

// records is the zone piece by piece, none of them empty.
func (t *zoneTransfer) records(serial uint32) iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		soa := []dns.RR{t.soa(t.state, t.zone, t.zone.fqdn)}
		// RFC 1982, section 3.2: serials compare by the sign of their difference.
		if !yield(soa) || serial != 0 && int32(t.state.Serial()-serial) <= 0 {
			return
		}
		if !yield(t.apex()) {
			return
		}
		for _, owner := range t.owners() {
			if records := owner.records(t); len(records) > 0 && !yield(records) {
				return
			}
		}
		yield(soa)
	}
}

// apex is what the plugin itself puts into the zone: name servers, its own and those of zones below that
// are the plugin's too, and the version of the specification.
func (t *zoneTransfer) apex() []dns.RR {
	var records []dns.RR
	for i := range t.zones {
		child := &t.zones[i]
		if child != t.zone && t.parentOf(child) != t.zone {
			continue
		}
		records = append(records, &dns.NS{Hdr: t.header(child.fqdn, dns.TypeNS), Ns: child.nameServer})
		for _, address := range t.listenAddresses() {
			records = append(records, t.addressRecord(child.nameServer, address))
		}
	}
	if !t.zone.reverse {
		records = append(records, t.version(versionLabel+t.zone.fqdn))
	}
	return records
}

// parentOf is the longest of the plugin's zones that a zone lies in, nil if in none.
func (t *zoneTransfer) parentOf(child *zone) *zone {
	_, parent, found := strings.Cut(child.name, ".")
	if !found {
		return nil
	}
	return t.zoneOf(parent)
}

// owner is a name in the zone and what has it: a host, or hosts that an address points back to.
type owner struct {
	fqdn     string
	host     *mirror.Host
	pointers []string
}

// owners is the names of the zone, in order.
func (t *zoneTransfer) owners() []owner {
	var owners []owner
	if t.zone.reverse {
		for address, pointers := range t.state.Addresses() {
			if fqdn := reverseName(address); t.zoneOf(canonical(fqdn)) == t.zone {
				owners = append(owners, owner{fqdn: fqdn, pointers: pointers})
			}
		}
	} else {
		for host := range t.state.Hosts() {
			owners = t.appendOwner(owners, host)
			for _, endpoint := range host.Endpoints() {
				owners = t.appendOwner(owners, endpoint)
			}
		}
	}
	slices.SortFunc(owners, func(a, b owner) int { return strings.Compare(a.fqdn, b.fqdn) })
	return owners
}

// appendOwner adds a host if a query in the zone would find just it.
func (t *zoneTransfer) appendOwner(owners []owner, host *mirror.Host) []owner {
	fqdn := t.zone.outside(t.state, host.FQDN())
	name := fqdn[:len(fqdn)-1]
	if t.zoneOf(name) != t.zone {
		return owners
	}
	find := exactHost
	if suffix, wild := strings.CutPrefix(name, registryv1.WildcardPrefix); wild {
		find, name = wildcardHost, "any."+suffix
	}
	if find(t.state, name, t.zone.inCluster(t.state, name)) != host {
		return owners
	}
	return append(owners, owner{fqdn: fqdn, host: host})
}

// records is all that a query finds at the name, and at the names of its ports.
func (o owner) records(t *zoneTransfer) []dns.RR {
	switch {
	case o.host == nil:
		return t.pointers(t.state, o.fqdn, o.pointers)
	case o.host.ExternalName != "":
		return []dns.RR{&dns.CNAME{Hdr: t.header(o.fqdn, dns.TypeCNAME), Target: dns.Fqdn(o.host.ExternalName)}}
	case !addressed(o.host):
		return nil
	}
	var records []dns.RR
	for _, set := range []*mirror.RRset{o.host.A, o.host.AAAA} {
		if set != nil {
			records = append(records, t.recordsAt(o.fqdn, o.host, set)...)
		}
	}
	if strings.HasPrefix(o.fqdn, registryv1.WildcardPrefix) {
		return records
	}
	ports := []mirror.Port{{}}
	for _, port := range append(ports, o.host.Ports()...) {
		name := portName{name: port.Name, protocol: port.Protocol, host: o.host}
		fqdn := o.fqdn
		if port.Name != "" {
			fqdn = "_" + port.Name + "._" + port.Protocol + "." + o.fqdn
		}
		if name.find(t.state) {
			services, _ := t.services(t.state, fqdn, name, t.zone)
			records = append(records, services...)
		}
	}
	return records
}

// listenAddresses is where the server can be reached, as far as it knows: a zone without the addresses of
// its name servers is refused by most secondaries.
func (m *Meshvm) listenAddresses() []netip.Addr {
	var addresses []netip.Addr
	for _, host := range m.listenHosts {
		if address, err := netip.ParseAddr(host); err == nil && !address.IsUnspecified() {
			addresses = append(addresses, address.WithZone(""))
		}
	}
	if len(addresses) > 0 {
		return addresses
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		m.follower.log.Warn("list the machine's addresses for a zone transfer", "error", err)
	}
	for _, network := range interfaces {
		prefix, err := netip.ParsePrefix(network.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() {
			addresses = append(addresses, prefix.Addr())
		}
	}
	if len(addresses) == 0 {
		addresses = append(addresses, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return addresses
}
