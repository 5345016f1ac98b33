package conformance

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// testIdentifiers walks from the Service nameless, whose endpoints have no hostname, over the targets of its
// SRV records to their addresses, and by their pointers back. The specification leaves the form of an
// endpoint's identifier open (section 2.1), but it must identify one endpoint of the Service: so nothing here
// knows how one looks.
func testIdentifiers(t *testing.T, resolver *resolver) {
	service := "nameless." + specified + ".svc." + clusterZone
	want := []netip.Addr{
		netip.MustParseAddr("10.244.9.20"), netip.MustParseAddr("10.244.9.21"),
		netip.MustParseAddr("fd00:10:244::20"), netip.MustParseAddr("fd00:10:244:0:1:2:3:4"), netip.MustParseAddr("fd00:10:244:0:5::"),
	}
	var led []netip.Addr
	for _, rr := range resolver.ask("_https._tcp."+service, dns.TypeSRV).Answer {
		target := rr.(*dns.SRV).Target
		if !dns.IsSubDomain(service, target) || dns.CountLabel(target) != dns.CountLabel(service)+1 {
			t.Errorf("Target: got %s, want one label below %s", target, service)
		}
		addresses := resolver.addressesOf(t, target)
		if len(addresses) != 1 {
			t.Errorf("Addresses of %s: got %v, want one", target, addresses)
		}
		for _, address := range addresses {
			reversed, err := dns.ReverseAddr(address.String())
			if err != nil {
				t.Fatal(err)
			}
			back := texts(resolver.ask(reversed, dns.TypePTR).Answer)
			if pointer := strings.ToLower(reversed + " PTR " + target); !slices.Equal(back, []string{pointer}) {
				t.Errorf("Pointer of %v: got %q, want %q", address, back, pointer)
			}
		}
		led = append(led, addresses...)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	slices.SortFunc(led, netip.Addr.Compare)
	if !slices.Equal(led, want) {
		t.Errorf("Addresses of all targets: got %v, want %v", led, want)
	}
	if of := resolver.addressesOf(t, service); !slices.Equal(of, want) {
		t.Errorf("Addresses of %s: got %v, want %v", service, of, want)
	}
}

// addressesOf is the addresses of a name in both families, in order.
func (r *resolver) addressesOf(t *testing.T, name string) []netip.Addr {
	t.Helper()
	var addresses []netip.Addr
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range r.ask(name, qtype).Answer {
			var text string
			switch rr := rr.(type) {
			case *dns.A:
				text = rr.A.String()
			case *dns.AAAA:
				text = rr.AAAA.String()
			default:
				t.Errorf("%s, %s: got %v, want addresses", r.name, name, rr)
				continue
			}
			addresses = append(addresses, netip.MustParseAddr(text))
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses
}
