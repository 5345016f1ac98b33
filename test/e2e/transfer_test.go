package e2e

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// transfer gets a zone over TCP, as a secondary that knows nothing of it, and returns its records with
// the SOA record at both ends, and in how many messages they came.
func (m *machine) transfer(zone string) (records []dns.RR, messages int, err error) {
	return m.transferWith(new(dns.Msg).SetAxfr(zone))
}

func (m *machine) transferWith(query *dns.Msg) (records []dns.RR, messages int, err error) {
	secondary := &dns.Transfer{DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience}
	envelopes, err := secondary.In(query, m.address)
	if err != nil {
		return nil, 0, err
	}
	for envelope := range envelopes {
		if envelope.Error != nil {
			err = cmp.Or(err, envelope.Error)
			continue
		}
		records = append(records, envelope.RR...)
		messages++
	}
	return records, messages, err
}

// whole is the records of a transfer between its two SOA records.
func whole(t *testing.T, m *machine, zone string) []dns.RR {
	t.Helper()
	records, _, err := m.transfer(zone)
	if err != nil {
		t.Fatalf("Transfer %s: %v", zone, err)
	}
	if len(records) < 3 {
		t.Fatalf("Transfer %s: got %v, want more", zone, records)
	}
	first, last := records[0], records[len(records)-1]
	if line(first) != line(last) || first.Header().Rrtype != dns.TypeSOA || first.Header().Name != zone {
		t.Errorf("First and last: got %q and %q, want the SOA of %s", line(first), line(last), zone)
	}
	return records[1 : len(records)-1]
}

// incremental asks for what a secondary with a serial lacks.
func incremental(zone string, serial uint32) *dns.Msg {
	return new(dns.Msg).SetIxfr(zone, serial, "ns.dns."+zone, "hostmaster."+zone)
}

// transferring is a machine that lets loopback transfer four zones: the cluster's, another for the same
// names, one with hosts outside the cluster, and a reverse one.
func transferring(t *testing.T, syncer string) *machine {
	t.Helper()
	m := newChain(t, syncer, "transfer {\nto 127.0.0.1\n}\n"+
		"meshvm cluster.local mesh.example shop.example.com 10.0.0.0/8 {\n"+follow+"\n}\nforward . "+programs.Upstream(t))
	m.isReady()
	return m
}

func TestTransfer(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "registry.yaml", documents(
		namespace("empty"),
		service("reviews.prod", "10.96.0.10", "fd00:96::10"),
		headless("db.prod"),
		slice("db.prod", 1, "IPv4", "db-0=10.244.0.1", "10.244.0.2"),
		headless("idle.prod"),
		externalName("www.prod", "www.example.org"),
		serviceEntry("api.prod", "api.shop.example.com", "240.240.0.1"),
		serviceEntry("wild.prod", "*.wild.shop.example.com", "240.240.0.2"),
		serviceEntry("elsewhere.prod", "api.example.net", "240.240.0.3"),
	))
	_, syncer, _ := syncerOn(t, folder)
	m := transferring(t, syncer)

	apex := []string{"ZONE NS ns.dns.ZONE", "ns.dns.ZONE A 127.0.0.1"}
	cluster := []string{
		`dns-version.ZONE TXT "1.1.0"`,
		"reviews.prod.svc.ZONE A 10.96.0.10",
		"reviews.prod.svc.ZONE AAAA fd00:96::10",
		"reviews.prod.svc.ZONE SRV 0 50 80 reviews.prod.svc.ZONE",
		"_http._tcp.reviews.prod.svc.ZONE SRV 0 50 80 reviews.prod.svc.ZONE",
		"db.prod.svc.ZONE A 10.244.0.1",
		"db.prod.svc.ZONE A 10.244.0.2",
		"db.prod.svc.ZONE SRV 0 50 3306 db-0.db.prod.svc.ZONE",
		"db.prod.svc.ZONE SRV 0 50 3306 10-244-0-2.db.prod.svc.ZONE",
		"_sql._tcp.db.prod.svc.ZONE SRV 0 50 3306 db-0.db.prod.svc.ZONE",
		"_sql._tcp.db.prod.svc.ZONE SRV 0 50 3306 10-244-0-2.db.prod.svc.ZONE",
		"db-0.db.prod.svc.ZONE A 10.244.0.1",
		"db-0.db.prod.svc.ZONE SRV 0 100 3306 db-0.db.prod.svc.ZONE",
		"10-244-0-2.db.prod.svc.ZONE A 10.244.0.2",
		"10-244-0-2.db.prod.svc.ZONE SRV 0 100 3306 10-244-0-2.db.prod.svc.ZONE",
		"www.prod.svc.ZONE CNAME www.example.org.",
	}
	tests := map[string][]string{
		"cluster.local.": slices.Concat(apex, cluster),
		"mesh.example.":  slices.Concat(apex, cluster),
		"shop.example.com.": slices.Concat(apex, cluster, []string{
			"api.ZONE A 240.240.0.1",
			"api.ZONE SRV 0 100 443 api.ZONE",
			"_tls._tcp.api.ZONE SRV 0 100 443 api.ZONE",
			"*.wild.ZONE A 240.240.0.2",
		}),
		"10.in-addr.arpa.": slices.Concat(apex, []string{
			"10.0.96.ZONE PTR reviews.prod.svc.cluster.local.",
			"1.0.244.ZONE PTR db-0.db.prod.svc.cluster.local.",
			"2.0.244.ZONE PTR 10-244-0-2.db.prod.svc.cluster.local.",
		}),
	}
	for zone, want := range tests {
		t.Run(zone, func(t *testing.T) {
			for i, record := range want {
				want[i] = strings.ReplaceAll(record, "ZONE", zone)
			}
			sameLines(t, "Records", whole(t, m, zone), want...)
		})
	}
	t.Run("another spelling", func(t *testing.T) {
		records, _, err := m.transfer("Cluster.LOCAL.")
		if err != nil || len(records) != len(tests["cluster.local."])+2 {
			t.Errorf("Records: got %d, %v, want %d", len(records), err, len(tests["cluster.local."])+2)
		}
	})
}

// TestTransferIsWhatQueriesGet asks for every name and type of the transfer of a zone too large for one
// message.
func TestTransferIsWhatQueriesGet(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	write(t, folder, "crowd.yaml", crowd())
	_, syncer, _ := syncerOn(t, folder)
	m := transferring(t, syncer)
	for _, zone := range []string{"cluster.local.", "mesh.example.", "shop.example.com.", "10.in-addr.arpa."} {
		t.Run(zone, func(t *testing.T) {
			if _, messages, err := m.transfer(zone); err != nil || messages < 2 {
				t.Errorf("Messages: got %d, %v, want several", messages, err)
			}
			sets := map[dns.Question][]string{}
			for _, rr := range whole(t, m, zone) {
				if below, wild := strings.CutPrefix(rr.Header().Name, "*"); wild {
					rr.Header().Name = "any" + below
				}
				question := dns.Question{Name: rr.Header().Name, Qtype: rr.Header().Rrtype, Qclass: dns.ClassINET}
				sets[question] = append(sets[question], rr.String())
			}
			if len(sets) < crowdSize {
				t.Errorf("Record sets: got %d, want at least %d", len(sets), crowdSize)
			}
			conn, err := (&dns.Client{Net: "tcp"}).DialContext(t.Context(), m.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			for question, want := range sets {
				query := &dns.Msg{MsgHdr: dns.MsgHdr{Id: dns.Id()}, Question: []dns.Question{question}}
				if err := conn.WriteMsg(query); err != nil {
					t.Fatalf("Ask for %v: %v", question, err)
				}
				reply, err := conn.ReadMsg()
				if err != nil {
					t.Fatalf("Ask for %v: %v", question, err)
				}
				var got []string
				for _, rr := range reply.Answer {
					got = append(got, rr.String())
				}
				slices.Sort(got)
				slices.Sort(want)
				if reply.Rcode != dns.RcodeSuccess || !slices.Equal(got, want) {
					t.Errorf("%v: a query gets %s %q, a transfer %q", question, dns.RcodeToString[reply.Rcode], got, want)
				}
			}
		})
	}
}

func TestTransferRefused(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	_, syncer, _ := syncerOn(t, folder)
	start := func(syncer, plugins string) *machine {
		return newChain(t, syncer, plugins+"\nmeshvm cluster.local mesh.example 10.96.0.0/16 {\n"+follow+"\n}")
	}
	open, closed := start(syncer, "transfer {\nto *\n}"), start(syncer, "transfer {\nto 192.0.2.1\n}")
	partly, without := start(syncer, "transfer mesh.example {\nto *\n}"), start(syncer, "")
	fenced := start(syncer, "transfer {\nto *\n}\nacl {\nblock type AXFR net *\nblock type IXFR net *\n}")
	for _, m := range []*machine{open, closed, partly, without, fenced} {
		m.isReady()
	}
	nothing := start(programs.FreeAddress(t), "transfer {\nto *\n}")

	axfr := func(zone string) *dns.Msg { return new(dns.Msg).SetAxfr(zone) }
	ixfr := func(zone string) *dns.Msg { return incremental(zone, 1) }
	tcp, udp := client{tcp: true}, client{}
	tests := map[string]struct {
		machine *machine
		client  client
		query   *dns.Msg
		rcode   int
	}{
		"over UDP":                        {open, udp, axfr("cluster.local."), dns.RcodeRefused},
		"incremental over UDP":            {open, udp, ixfr("cluster.local."), dns.RcodeRefused},
		"part of a zone":                  {open, tcp, axfr("svc.cluster.local."), dns.RcodeRefused},
		"reverse, part of a zone":         {open, tcp, axfr("0.96.10.in-addr.arpa."), dns.RcodeRefused},
		"client not named":                {closed, tcp, axfr("cluster.local."), dns.RcodeRefused},
		"client not named, custom zone":   {closed, tcp, axfr("mesh.example."), dns.RcodeRefused},
		"client not named, reverse zone":  {closed, tcp, axfr("96.10.in-addr.arpa."), dns.RcodeRefused},
		"client not named, incremental":   {closed, tcp, ixfr("cluster.local."), dns.RcodeRefused},
		"zone not named":                  {partly, tcp, axfr("cluster.local."), dns.RcodeRefused},
		"zone not named, incremental":     {partly, tcp, ixfr("cluster.local."), dns.RcodeRefused},
		"no transfer plugin":              {without, tcp, axfr("cluster.local."), dns.RcodeRefused},
		"no transfer plugin, incremental": {without, tcp, ixfr("cluster.local."), dns.RcodeRefused},
		"no transfer plugin, UDP":         {without, udp, axfr("cluster.local."), dns.RcodeRefused},
		"no transfer plugin, reverse":     {without, tcp, axfr("96.10.in-addr.arpa."), dns.RcodeRefused},
		"blocked by acl":                  {fenced, tcp, axfr("cluster.local."), dns.RcodeRefused},
		"blocked by acl, incremental":     {fenced, tcp, ixfr("cluster.local."), dns.RcodeRefused},
		"nothing loaded":                  {nothing, tcp, axfr("cluster.local."), dns.RcodeServerFailure},
		"nothing loaded, incremental":     {nothing, tcp, ixfr("cluster.local."), dns.RcodeServerFailure},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reply, _, err := tc.client.send(t.Context(), tc.machine.address, tc.query)
			if err != nil {
				t.Fatal(err)
			}
			sameRcode(t, reply, tc.rcode)
			sameLines(t, "Answer", reply.Answer)
			sameLines(t, "Authority", reply.Ns)
			sameLines(t, "Additional", reply.Extra)
		})
	}
	t.Run("zone named", func(t *testing.T) {
		if got := len(whole(t, partly, "mesh.example.")); got < 10 {
			t.Errorf("Records: got %d, want the zone", got)
		}
	})
}

func TestIncrementalTransfer(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	_, syncer, _ := syncerOn(t, folder)
	m := transferring(t, syncer)
	serialOf := func(zone string) uint32 {
		reply, _ := m.reply(t, client{}, zone+" SOA")
		if len(reply.Answer) != 1 {
			t.Fatalf("SOA of %s: got %v", zone, reply)
		}
		return reply.Answer[0].(*dns.SOA).Serial
	}
	// current asks with a serial that is not behind.
	current := func(zone string, serial, want uint32) {
		t.Helper()
		reply, _, err := client{tcp: true}.send(t.Context(), m.address, incremental(zone, serial))
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.Answer) != 1 {
			t.Fatalf("%s with serial %d: got %v, want the SOA record alone", zone, serial, reply.Answer)
		}
		if soa, ok := reply.Answer[0].(*dns.SOA); !ok || soa.Serial != want || soa.Hdr.Name != zone {
			t.Errorf("%s with serial %d: got %v, want the SOA record with %d", zone, serial, reply.Answer[0], want)
		}
	}
	// behind asks with one that is.
	behind := func(zone string, serial uint32) {
		t.Helper()
		all, _, err := m.transfer(zone)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := m.transferWith(incremental(zone, serial))
		if err != nil {
			t.Fatalf("%s with serial %d: %v", zone, serial, err)
		}
		if len(all) < 3 || !slices.Equal(lines(got), lines(all)) {
			t.Errorf("%s with serial %d: got %q, want the whole zone %q", zone, serial, lines(got), lines(all))
		}
	}
	zones := []string{"cluster.local.", "mesh.example.", "10.in-addr.arpa."}
	held := map[string]uint32{}
	for _, zone := range zones {
		serial := serialOf(zone)
		held[zone] = serial
		current(zone, serial, serial)
		current(zone, serial+1, serial)
		behind(zone, serial-1)
		behind(zone, serial+1<<31+1)
	}
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.2"))
	m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2")
	for _, zone := range zones {
		serial := serialOf(zone)
		if int32(serial-held[zone]) <= 0 {
			t.Errorf("Serial of %s: got %d after %d, want a later one", zone, serial, held[zone])
		}
		behind(zone, held[zone])
		current(zone, serial, serial)
	}
}
