package vip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster is what an allocator's plans are done to, in order and at once.
type cluster struct {
	*Allocator
	t        *testing.T
	now      time.Time
	entries  map[Owner]Claim
	ledger   map[netip.Addr]Record
	verdicts map[Owner][]Problem
	patches  int
}

func newCluster(t *testing.T, texts ...string) *cluster {
	t.Helper()
	ranges, err := ParseRanges(texts)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		t: t, now: time.Unix(1_790_000_000, 0).UTC(),
		entries: map[Owner]Claim{}, ledger: map[netip.Addr]Record{}, verdicts: map[Owner][]Problem{},
	}
	c.Allocator = New(Options{Ranges: ranges, Now: func() time.Time { return c.now }})
	return c
}

// entry makes or changes a ServiceEntry and keeps its status. Later ones are younger.
func (c *cluster) entry(name string, hosts ...string) {
	owner := Owner{"default", name}
	state, known := c.entries[owner]
	if !known {
		c.now = c.now.Add(time.Second)
		state = Claim{Owner: owner, CreatedAt: c.now}
	}
	state.Hosts = hosts
	c.entries[owner] = state
	c.Put(state)
}

func (c *cluster) delete(name string) {
	delete(c.entries, Owner{"default", name})
	c.Remove(Owner{"default", name})
}

// write has somebody else write a status: pairs of host and address.
func (c *cluster) write(name string, pairs ...string) {
	state := c.entries[Owner{"default", name}]
	state.Status = nil
	for pair := range slices.Chunk(pairs, 2) {
		state.Status = append(state.Status, HostAddress{pair[0], netip.MustParseAddr(pair[1])})
	}
	c.entries[state.Owner] = state
	c.Put(state)
}

// settle does what is planned until nothing is.
func (c *cluster) settle() {
	c.t.Helper()
	for range 100 {
		plan := c.Plan(100)
		for _, record := range plan.Store {
			c.ledger[record.Address] = record
		}
		for _, address := range plan.Forget {
			delete(c.ledger, address)
		}
		for _, verdict := range plan.Verdicts {
			c.verdicts[verdict.Owner] = verdict.Problems
		}
		for _, patch := range plan.Patches {
			state := c.entries[patch.Owner]
			state.Status = patch.Addresses
			c.entries[patch.Owner] = state
			c.Put(state)
			c.patches++
		}
		if len(plan.Patches) == 0 && !plan.More {
			return
		}
	}
	c.t.Fatal("it never comes to rest")
}

func (c *cluster) pass(d time.Duration) { c.now = c.now.Add(d) }

// status is a ServiceEntry's, for people.
func (c *cluster) status(name string) string {
	var texts []string
	for _, entry := range c.entries[Owner{"default", name}].Status {
		texts = append(texts, entry.Host+"="+entry.Address.String())
	}
	return strings.Join(texts, " ")
}

func (c *cluster) want(name, want string) {
	c.t.Helper()
	if got := c.status(name); got != want {
		c.t.Errorf("status of %s: got %q, want %q", name, got, want)
	}
}

func (c *cluster) wantProblems(name string, want ...Problem) {
	c.t.Helper()
	if got := c.verdicts[Owner{"default", name}]; !slices.Equal(got, want) {
		c.t.Errorf("problems of %s: got %+v, want %+v", name, got, want)
	}
}

// Ranges of seven addresses.
const small4, small6 = "10.0.0.0/29", "fd00::/125"

func TestAllocator(t *testing.T) {
	tests := map[string]struct {
		ranges []string
		run    func(c *cluster)
	}{
		"each host has an address of each family": {[]string{small4, small6}, func(c *cluster) {
			c.entry("one", "a", "b")
			c.settle()
			c.want("one", "a="+prefer("a", small4)+" a="+prefer("a", small6)+" b="+prefer("b", small4)+" b="+prefer("b", small6))
		}},
		"of the families that there are ranges of": {[]string{small6}, func(c *cluster) {
			c.entry("one", "a")
			c.settle()
			c.want("one", "a="+prefer("a", small6))
		}},
		"a host of several ServiceEntries has one address": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.entry("two", "a", "b")
			c.settle()
			c.want("one", "a="+prefer("a", small4))
			c.want("two", "a="+prefer("a", small4)+" b="+prefer("b", small4))
		}},
		"it keeps it for as long as one of them is left": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.entry("two", "a")
			c.settle()
			c.delete("one")
			c.settle()
			c.want("two", "a="+prefer("a", small4))
			c.wantRow("a assigned")
		}},
		"hosts are spelled as the spec spells them, and are the same in any case": {[]string{small4}, func(c *cluster) {
			c.entry("one", "A")
			c.entry("two", "a")
			c.settle()
			c.want("one", "A="+prefer("a", small4))
			c.want("two", "a="+prefer("a", small4))
		}},
		"what is in the status already is taken as it is": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.write("one", "a", "10.0.0.4")
			c.entry("two", "b")
			c.write("two", "b", "192.0.2.1") // In no range of ours.
			c.settle()
			c.want("one", "a=10.0.0.4")
			c.want("two", "b=192.0.2.1")
			c.wantPatches(0)
		}},
		"what is missing of it is added": {[]string{small4, small6}, func(c *cluster) {
			c.entry("one", "a")
			c.write("one", "a", "10.0.0.4")
			c.settle()
			c.want("one", "a=10.0.0.4 a="+prefer("a", small6))
		}},
		"a status that somebody wipes comes back": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.settle()
			c.write("one")
			c.settle()
			c.want("one", "a="+prefer("a", small4))
		}},
		"a status that somebody overwrites stays so": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.settle()
			c.write("one", "a", "10.0.0.4")
			c.settle()
			c.want("one", "a=10.0.0.4")
			c.wantPatches(1)
		}},
		"of several addresses the last counts, and none is taken away": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.write("one", "a", "10.0.0.3", "a", "10.0.0.4")
			c.entry("two", "a")
			c.settle()
			c.want("one", "a=10.0.0.3 a=10.0.0.4")
			c.want("two", "a=10.0.0.4")
		}},
		"what another allocator gave one host twice is left alone and said": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.write("one", "a", "10.0.0.3")
			c.entry("two", "a")
			c.write("two", "a", "10.0.0.4")
			c.settle()
			c.want("one", "a=10.0.0.3")
			c.want("two", "a=10.0.0.4")
			c.wantProblems("two", Problem{Divergent, "a", "another ServiceEntry of this host has 10.0.0.3, this one has 10.0.0.4"})
			c.wantRow("a several")
		}},
		"what another allocator gives back is taken as it is, even where a host had it before": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.entry("two", "a")
			c.settle()
			c.write("two", "a", "10.0.0.4")
			c.settle()
			c.write("two", "a", prefer("a", small4))
			c.settle()
			c.wantRow("a quarantine", "a assigned")
			c.write("two", "a", "10.0.0.4")
			c.settle()
			c.want("one", "a="+prefer("a", small4))
			c.want("two", "a=10.0.0.4")
			c.wantPatches(2)
		}},
		"a host that leaves the spec leaves the status": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a", "b")
			c.settle()
			c.entry("one", "b")
			c.settle()
			c.want("one", "b="+prefer("b", small4))
		}},
		"a ServiceEntry that no longer qualifies loses what it was given": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.settle()
			c.entry("one")
			c.settle()
			c.want("one", "")
		}},
		"and keeps what it was not given": {[]string{small4}, func(c *cluster) {
			c.entry("one")
			c.write("one", "a", "10.0.0.4")
			c.settle()
			c.want("one", "a=10.0.0.4")
		}},
		"a host that comes back has the address that it had": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.write("one", "a", "10.0.0.4")
			c.settle()
			c.delete("one")
			c.settle()
			c.wantRow("a quarantine")
			c.pass(DefaultQuarantine - time.Minute)
			c.entry("two", "a")
			c.settle()
			c.want("two", "a=10.0.0.4")
		}},
		"nobody else has it before its quarantine is over": {[]string{"10.0.0.1/32"}, func(c *cluster) {
			c.entry("one", "a")
			c.settle()
			c.delete("one")
			c.entry("two", "b")
			c.settle()
			c.want("two", "")
			c.wantProblems("two", Problem{Exhausted, "b", "no IPv4 address is free in 10.0.0.1/32"})
			c.pass(c.Wake().Sub(c.now))
			c.settle()
			c.want("two", "b=10.0.0.1")
			c.wantProblems("two")
		}},
		"when there are too few, the elder has them and the others are told": {[]string{"10.0.0.1/32", small6}, func(c *cluster) {
			c.entry("one", "b")
			c.entry("two", "a")
			c.settle()
			c.want("one", "b=10.0.0.1 b="+prefer("b", small6))
			c.want("two", "a="+prefer("a", small6))
			c.wantProblems("two", Problem{Exhausted, "a", "no IPv4 address is free in 10.0.0.1/32"})
			c.wantProblems("one")
		}},
		"a cluster IP is never given": {[]string{"10.0.0.0/30"}, func(c *cluster) {
			c.Reserve("Service default/web", netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32"))
			c.entry("one", "a")
			c.settle()
			c.want("one", "a=10.0.0.3")
		}},
		"a host whose address becomes a cluster IP gets another, when patience ends": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.write("one", "a", "10.0.0.4")
			c.settle()
			c.Reserve("Service default/web", netip.MustParsePrefix("10.0.0.4/32"))
			c.settle()
			c.want("one", "a=10.0.0.4")
			c.wantProblems("one", Problem{Conflict, "a", "Service default/web has 10.0.0.4 as well, and comes first"})
			c.pass(DefaultPatience)
			c.settle()
			c.want("one", "a="+prefer("a", small4))
			c.wantProblems("one")
		}},
		"of a node's range nothing new is given, and what was given stays": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.write("one", "a", "10.0.0.4")
			c.settle()
			c.Reserve("Node a", netip.MustParsePrefix("10.0.0.0/24"))
			c.entry("two", "b")
			c.settle()
			c.pass(time.Hour)
			c.settle()
			c.want("one", "a=10.0.0.4")
			c.want("two", "")
			c.Reserve("Node a")
			c.settle()
			c.want("two", "b="+prefer("b", small4))
		}},
		"of two hosts with one address the elder keeps it": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.entry("two", "b")
			c.write("two", "b", "10.0.0.4")
			c.write("one", "a", "10.0.0.4")
			c.settle()
			c.wantProblems("two", Problem{Conflict, "b", "host a of ServiceEntry default/one has 10.0.0.4 as well, and comes first"})
			c.pass(DefaultPatience)
			c.settle()
			c.want("one", "a=10.0.0.4")
			c.want("two", "b="+prefer("b", small4))
			c.wantProblems("two")
		}},
		"a conflict that somebody else solves in time is left to them": {[]string{small4}, func(c *cluster) {
			c.entry("one", "a")
			c.entry("two", "b")
			c.write("one", "a", "10.0.0.4")
			c.write("two", "b", "10.0.0.4")
			c.settle()
			c.write("two", "b", "10.0.0.5")
			c.settle()
			c.pass(time.Hour)
			c.settle()
			c.want("two", "b=10.0.0.5")
			c.wantPatches(0)
		}},
		"beyond the most records nothing is given and nothing forgotten": {[]string{small4}, func(c *cluster) {
			c.options.MaxRecords = 1
			c.entry("one", "a")
			c.settle()
			c.delete("one")
			c.entry("two", "b")
			c.settle()
			c.wantProblems("two", Problem{Exhausted, "b", "there are 1 records of addresses, which is the most that are kept"})
			c.delete("two")
			c.entry("three", "a")
			c.settle()
			c.want("three", "a="+prefer("a", small4))
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test.run(newCluster(t, test.ranges...)) })
	}
}

// prefer is where a host is when it is alone.
func prefer(name, text string) string {
	prefix := netip.MustParsePrefix(text)
	return slotAt(prefix, preference(name, familyOf(prefix.Addr()))%slotsIn(prefix)).String()
}

func (c *cluster) wantPatches(want int) {
	c.t.Helper()
	if c.patches != want {
		c.t.Errorf("patches: got %d, want %d", c.patches, want)
	}
}

// wantRow holds the rows of the table against `host state`.
func (c *cluster) wantRow(want ...string) {
	c.t.Helper()
	var got []string
	for _, row := range c.Rows() {
		got = append(got, row.Host+" "+string(row.State))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("rows: got %q, want %q", got, want)
	}
}

// What a host prefers must be the same in every version: an allocator that lost its ledger finds its way
// back by it.
func TestPreferenceIsForEver(t *testing.T) {
	for host, want := range map[string]string{
		"payments.example.com":  "240.240.34.191 2001:2::2bf5:94de:a723:a2e0",
		"*.storage.example.com": "240.240.239.85 2001:2::280f:26c4:ec8e:d68b",
	} {
		ranges, err := ParseRanges(DefaultRanges)
		if err != nil {
			t.Fatal(err)
		}
		a := New(Options{Ranges: ranges})
		a.Put(Claim{Owner: Owner{"default", "one"}, Hosts: []string{host}})
		var got []string
		for _, entry := range a.Plan(1).Patches[0].Addresses {
			got = append(got, entry.Address.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %s, want %s", host, strings.Join(got, " "), want)
		}
	}
}

func TestRestore(t *testing.T) {
	now := time.Unix(1_790_000_000, 0).UTC()
	address := netip.MustParseAddr("10.0.0.4")
	inUse := Record{Address: address, Host: "a", Since: now.Add(-time.Hour)}
	rests := Record{Address: address, Host: "b", Since: now.Add(-time.Hour), FreedAt: now.Add(-time.Minute)}
	restedBefore := Record{Address: address, Host: "c", Since: now.Add(-time.Hour), FreedAt: now.Add(-time.Minute * 2)}
	fromTheFuture := Record{Address: address, Host: "d", FreedAt: now.Add(time.Hour)}
	freedNow := fromTheFuture
	freedNow.FreedAt = now
	tests := map[string]struct {
		records []Record
		want    Record
	}{
		"one":                                  {[]Record{inUse}, inUse},
		"the one in use counts, last":          {[]Record{rests, inUse}, inUse},
		"the one in use counts, first":         {[]Record{inUse, rests}, inUse},
		"else the one freed last, last":        {[]Record{restedBefore, rests}, rests},
		"else the one freed last, first":       {[]Record{rests, restedBefore}, rests},
		"what was freed in the future is now":  {[]Record{fromTheFuture}, freedNow},
		"a record without a host is left out":  {[]Record{{Address: address}, inUse}, inUse},
		"a record without address is left out": {[]Record{{Host: "x"}, inUse}, inUse},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ranges, err := ParseRanges([]string{small4})
			if err != nil {
				t.Fatal(err)
			}
			a := New(Options{Ranges: ranges, Now: func() time.Time { return now }})
			a.Restore(test.records)
			if got := a.Records(); len(got) != 1 || !got[0].Equal(test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	c := newCluster(t, small4, small6)
	c.entry("one", "a", "b")
	c.settle()
	c.entry("one", "b")
	c.settle()
	want := []Usage{{netip.MustParsePrefix(small4), 7, 1, 1}, {netip.MustParsePrefix(small6), 7, 1, 1}}
	if got := c.Usage(); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// BenchmarkPlan is of one change among many hosts, and of many at once.
func BenchmarkPlan(b *testing.B) {
	ranges, err := ParseRanges(DefaultRanges)
	if err != nil {
		b.Fatal(err)
	}
	claim := func(i int) Claim {
		return Claim{Owner: Owner{"default", fmt.Sprintf("entry-%d", i)}, Hosts: []string{fmt.Sprintf("host-%d.example.com", i)}}
	}
	full := func(hosts int) *Allocator {
		a := New(Options{Ranges: ranges})
		for i := range hosts {
			a.Put(claim(i))
		}
		for a.Plan(1000).More {
		}
		return a
	}
	for _, hosts := range []int{1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("one change among %d hosts", hosts), func(b *testing.B) {
			a := full(hosts)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				a.Put(claim(hosts + i%100))
				a.Plan(1000)
				a.Remove(claim(hosts + i%100).Owner)
				a.Plan(1000)
			}
		})
		b.Run(fmt.Sprintf("all of %d hosts", hosts), func(b *testing.B) {
			for b.Loop() {
				full(hosts)
			}
		})
	}
}
