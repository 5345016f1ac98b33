package meshvm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// transferred is the records of a whole transfer, as a client gets them.
func transferred(t *testing.T, m *Meshvm, zone string, serial uint32) []dns.RR {
	t.Helper()
	pieces, err := m.Transfer(zone, serial)
	if err != nil {
		t.Fatalf("Transfer(%s): %v", zone, err)
	}
	var records []dns.RR
	for piece := range pieces {
		if len(piece) == 0 {
			t.Error("Got an empty piece")
		}
		records = append(records, piece...)
	}
	return records
}

// line is a record in short: OWNER TYPE DATA.
func line(rr dns.RR) string { return rr.Header().Name + " " + data(rr) }

func serving127(t *testing.T, config *Config, resources []*registryv1.Resource) *Meshvm {
	t.Helper()
	m := serving(t, config, resources)
	m.listenHosts = []string{"127.0.0.1"}
	t.Cleanup(m.transfers.stop)
	return m
}

func TestTransfer(t *testing.T) {
	config := defaultConfig()
	config.Zones = []string{DefaultZone, "mesh.example.org.", "example.com.", "sub.example.com.", "96.10.in-addr.arpa."}
	m := serving127(t, config, []*registryv1.Resource{
		namespace("empty"),
		withPorts(service("reviews", "prod", "10.96.0.10", "fd00::10"), tcp("http", 80), udp("", 53)),
		headless("db", "prod"),
		withPorts(slice("db-1", "db", "prod",
			&registryv1.Endpoint{Addresses: addresses("10.0.0.1"), Hostname: "db-0", Ready: true},
			&registryv1.Endpoint{Addresses: addresses("10.0.0.2"), Hostname: "db-1"}), tcp("sql", 3306)),
		headless("vms", "prod"),
		slice("vms-1", "vms", "prod", &registryv1.Endpoint{Addresses: addresses("10.0.3.5"), Name: "group-10.0.3.5", Ready: true}),
		headless("idle", "prod"),
		externalName("ext", "prod", "target.example.net"),
		serviceEntry("api", "api.example.com", "240.240.0.1"),
		serviceEntry("bare", "bare.example.com"),
		serviceEntry("wild", "*.wild.example.com", "240.240.0.3"),
		serviceEntry("sub", "a.sub.example.com", "240.240.0.4"),
		serviceEntry("elsewhere", "vault", "240.240.0.5"),
	})
	apex := func(zone string) []string {
		return []string{zone + " NS ns.dns." + zone, "ns.dns." + zone + " A 127.0.0.1"}
	}
	version := func(zone string) string { return "dns-version." + zone + ` TXT "1.1.0"` }
	// Every zone that is not a part of the cluster's domain stands for it.
	cluster := func(zone string) []string {
		return []string{
			"db-0.db.prod.svc." + zone + " A 10.0.0.1",
			"db-0.db.prod.svc." + zone + " SRV 0 100 3306 db-0.db.prod.svc." + zone,
			"db.prod.svc." + zone + " A 10.0.0.1",
			"db.prod.svc." + zone + " SRV 0 100 3306 db-0.db.prod.svc." + zone,
			"_sql._tcp.db.prod.svc." + zone + " SRV 0 100 3306 db-0.db.prod.svc." + zone,
			"ext.prod.svc." + zone + " CNAME target.example.net.",
			"group-10.0.3.5.vms.prod.svc." + zone + " A 10.0.3.5",
			"reviews.prod.svc." + zone + " A 10.96.0.10",
			"reviews.prod.svc." + zone + " AAAA fd00::10",
			"reviews.prod.svc." + zone + " SRV 0 25 80 reviews.prod.svc." + zone,
			"reviews.prod.svc." + zone + " SRV 0 25 53 reviews.prod.svc." + zone,
			"_http._tcp.reviews.prod.svc." + zone + " SRV 0 50 80 reviews.prod.svc." + zone,
			"vms.prod.svc." + zone + " A 10.0.3.5",
		}
	}
	tests := map[string][]string{
		DefaultZone:         slices.Concat(apex(DefaultZone), []string{version(DefaultZone)}, cluster(DefaultZone)),
		"mesh.example.org.": slices.Concat(apex("mesh.example.org."), []string{version("mesh.example.org.")}, cluster("mesh.example.org.")),
		"example.com.": slices.Concat(apex("example.com."), apex("sub.example.com."), []string{
			version("example.com."),
			"*.wild.example.com. A 240.240.0.3",
			"api.example.com. A 240.240.0.1",
		}, cluster("example.com.")),
		"sub.example.com.": slices.Concat(apex("sub.example.com."), []string{
			version("sub.example.com."),
			"a.sub.example.com. A 240.240.0.4",
		}, cluster("sub.example.com.")),
		"96.10.in-addr.arpa.": append(apex("96.10.in-addr.arpa."),
			"10.0.96.10.in-addr.arpa. PTR reviews.prod.svc.cluster.local."),
	}
	for zone, want := range tests {
		t.Run(zone, func(t *testing.T) {
			records := transferred(t, m, zone, 0)
			first, last := records[0], records[len(records)-1]
			for _, rr := range []dns.RR{first, last} {
				if soa, ok := rr.(*dns.SOA); !ok || soa.Hdr.Name != zone || soa.Serial != m.follower.mirror.State().Serial() {
					t.Errorf("First and last: got %v, want the SOA of %s", rr, zone)
				}
			}
			var got []string
			for _, rr := range records[1 : len(records)-1] {
				got = append(got, line(rr))
			}
			if !slices.Equal(got, want) {
				t.Errorf("Records: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestTransferIsWhatQueriesGet asks for every name and type of a transfer, and looks for every answer to a
// query in a transfer.
func TestTransferIsWhatQueriesGet(t *testing.T) {
	config := defaultConfig()
	config.Zones = []string{DefaultZone, "mesh.example.org.", "example.com.", "10.in-addr.arpa.", "240.240.in-addr.arpa."}
	m := serving127(t, config, crowd(1))
	for _, zone := range config.Zones {
		t.Run(zone, func(t *testing.T) {
			sets := map[dns.Question][]string{}
			for _, rr := range transferred(t, m, zone, 0) {
				q := dns.Question{Name: rr.Header().Name, Qtype: rr.Header().Rrtype, Qclass: dns.ClassINET}
				if strings.HasPrefix(q.Name, "*.") {
					q.Name = "any" + q.Name[1:]
				}
				if l := data(rr); !slices.Contains(sets[q], l) { // the SOA comes twice
					sets[q] = append(sets[q], l)
				}
			}
			if len(sets) < 3 {
				t.Fatalf("Sets: got %d, want more", len(sets))
			}
			for q, want := range sets {
				if q.Name != zone && q.Qtype == dns.TypeNS || strings.HasPrefix(q.Name, "ns.dns.") {
					continue // The server's own addresses are those where a query reached it.
				}
				var got []string
				for _, rr := range ask(t, m, q.Name, q.Qtype, false).Answer {
					if rr.Header().Rrtype == q.Qtype {
						got = append(got, data(rr))
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s %s: a query gets %q, a transfer %q", q.Name, dns.TypeToString[q.Qtype], got, want)
				}
			}
		})
	}
}

func TestIncrementalTransfer(t *testing.T) {
	m := serving127(t, defaultConfig(), mesh())
	serial := m.follower.mirror.State().Serial()
	tests := map[string]struct {
		serial uint32
		whole  bool
	}{
		"no serial":                    {0, true},
		"the same serial":              {serial, false},
		"an older one":                 {serial - 1, true},
		"a newer one":                  {serial + 1, false},
		"an older one, around the end": {serial + 1<<31 + 1, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := len(transferred(t, m, DefaultZone, tc.serial)); (got > 1) != tc.whole {
				t.Errorf("Records: got %d, want the whole zone: %t", got, tc.whole)
			}
		})
	}
}

func TestTransferRefused(t *testing.T) {
	stale := defaultConfig()
	stale.StaleAction = StaleFail
	old := serving127(t, stale, mesh())
	old.follower.age.Store(int64(2 * stale.MaxStale))
	tests := map[string]struct {
		m    *Meshvm
		zone string
		want string
	}{
		"another zone":      {serving127(t, defaultConfig(), mesh()), "example.com.", transfer.ErrNotAuthoritative.Error()},
		"part of a zone":    {serving127(t, defaultConfig(), mesh()), "svc.cluster.local.", transfer.ErrNotAuthoritative.Error()},
		"nothing loaded":    {serving127(t, defaultConfig(), nil), DefaultZone, "transfer zone cluster.local.: no registry has been loaded yet"},
		"too old to answer": {old, DefaultZone, "transfer zone cluster.local.: the registry is older than max_stale"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := tc.m.Transfer(tc.zone, 0)
			if err == nil || err.Error() != tc.want {
				t.Errorf("Error: got %v, want %s", err, tc.want)
			}
			if (tc.want == transfer.ErrNotAuthoritative.Error()) != errors.Is(err, transfer.ErrNotAuthoritative) {
				t.Errorf("Error: got %v, which the transfer plugin misreads", err)
			}
		})
	}
}

// TestTransferIsOfOneRevision changes the registry after every piece.
func TestTransferIsOfOneRevision(t *testing.T) {
	m := serving127(t, defaultConfig(), mesh())
	want := transferred(t, m, DefaultZone, 0)
	pieces, err := m.Transfer(DefaultZone, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []dns.RR
	for piece := range pieces {
		got = append(got, piece...)
		position := m.follower.mirror.State().Position()
		err := m.follower.mirror.Apply(mirror.Change{
			Generation: position.GetGeneration(), View: position.GetView(), ClusterDomain: "cluster.local",
			From: position.GetRevision(), To: position.GetRevision() + 1,
			Upserts: []*registryv1.Resource{
				service("reviews", "prod", fmt.Sprintf("10.96.7.%d", position.GetRevision())),
				service(fmt.Sprintf("z%d", position.GetRevision()), "prod", "10.96.0.99"),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("Records: got %d, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].String() != want[i].String() {
			t.Errorf("Record %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

// TestTransferStops leaves a transfer where it is: the instance's end is its end.
func TestTransferStops(t *testing.T) {
	m := serving127(t, defaultConfig(), mesh())
	pieces, err := m.Transfer(DefaultZone, 0)
	if err != nil {
		t.Fatal(err)
	}
	<-pieces
	m.transfers.stop()
	if _, more := <-pieces; more {
		t.Error("Got another piece after the end")
	}
}

func TestListenAddresses(t *testing.T) {
	m := serving127(t, defaultConfig(), mesh())
	tests := map[string]struct {
		hosts []string
		want  string
	}{
		"bound":          {[]string{"127.0.0.1", "::1"}, "[127.0.0.1 ::1]"},
		"with a zone":    {[]string{"fe80::1%lo"}, "[fe80::1]"},
		"not everywhere": {[]string{"0.0.0.0", "192.0.2.1"}, "[192.0.2.1]"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m.listenHosts = tc.hosts
			if got := fmt.Sprint(m.listenAddresses()); got != tc.want {
				t.Errorf("Addresses: got %s, want %s", got, tc.want)
			}
		})
	}
	t.Run("everywhere", func(t *testing.T) {
		m.listenHosts = []string{""}
		if got := m.listenAddresses(); len(got) == 0 {
			t.Error("Addresses: got none, want some, or loopback's")
		}
	})
}
