package kubernetes

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/vip"
)

// longest is a record as long as there can be one.
func longest(address netip.Addr) vip.Record {
	at := time.Date(2026, 11, 23, 12, 34, 56, 123456789, time.FixedZone("", 13*3600+45*60))
	return vip.Record{
		Address: address,
		Host:    strings.Repeat("h", 253),
		Owner:   vip.Owner{Namespace: strings.Repeat("n", 63), Name: strings.Repeat("s", 253)},
		Since:   at, FreedAt: at,
	}
}

// numbered is the address of a number, far from those of its neighbours in IPv6.
func numbered(number int, v6 bool) netip.Addr {
	if !v6 {
		return netip.AddrFrom4([4]byte{240, 240, byte(number >> 8), byte(number)})
	}
	bytes := netip.MustParseAddr("2001:2::").As16()
	binary.BigEndian.PutUint64(bytes[8:], uint64(number)*0x9e3779b97f4a7c15)
	return netip.AddrFrom16(bytes)
}

func TestFullLedgerStaysBelowWhatAConfigMapMayHave(t *testing.T) {
	const limit = 512 << 10 // Half of what Kubernetes allows.
	shards := map[int]map[netip.Addr]vip.Record{}
	for i := range vip.DefaultMaxRecords {
		address := numbered(i/2, i%2 == 1)
		number := shardOf(address)
		if shards[number] == nil {
			shards[number] = map[netip.Addr]vip.Record{}
		}
		shards[number][address] = longest(address)
	}
	largest := 0
	for number, records := range shards {
		content, err := encodeShard(records)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, len(content[recordsKey]))
		parsed, err := parseShard(number, content)
		if err != nil {
			t.Fatal(err)
		}
		if len(parsed) != len(records) {
			t.Errorf("records of shard %d: got %d, want %d", number, len(parsed), len(records))
		}
	}
	if len(shards) != shardCount {
		t.Errorf("shards in use: got %d, want all %d", len(shards), shardCount)
	}
	if largest > limit {
		t.Errorf("largest shard: got %d bytes, want at most %d", largest, limit)
	}
	t.Logf("the largest of %d shards with %d records has %d bytes", shardCount, vip.DefaultMaxRecords, largest)
}

func TestShardThatWouldBeTooLargeIsRefused(t *testing.T) {
	records := map[netip.Addr]vip.Record{}
	for i := range 2000 {
		address := numbered(i, true)
		records[address] = longest(address)
	}
	if _, err := encodeShard(records); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("encodeShard: got %v, want that it is too large", err)
	}
}

// TestAddressesKeepTheirShard holds the function to what ledgers out there were written with.
func TestAddressesKeepTheirShard(t *testing.T) {
	for text, want := range map[string]int{"240.240.0.1": 198, "240.240.255.254": 32, "2001:2::1": 4, "2001:2:0:ffff::1": 142} {
		if got := shardOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("shard of %s: got %d, want %d", text, got, want)
		}
	}
	if got, want := shardName(7), "meshvm-vip-ledger-007"; got != want {
		t.Errorf("shardName: got %s, want %s", got, want)
	}
}

func TestParseShardNamesWhatIsWrong(t *testing.T) {
	address := netip.MustParseAddr("240.240.0.1")
	number := shardOf(address)
	good, err := encodeShard(map[netip.Addr]vip.Record{address: {Address: address, Host: "a.test", Owner: vip.Owner{Namespace: "n", Name: "s"}}})
	if err != nil {
		t.Fatal(err)
	}
	line := good[recordsKey]
	with := func(key, value string) map[string]string {
		changed := maps.Clone(good)
		changed[key] = value
		return changed
	}
	tests := map[string]struct {
		data map[string]string
		want string
	}{
		"nothing":               {nil, `data.format is "", want "1"`},
		"a later format":        {with(formatKey, "2"), `data.format is "2", want "1"`},
		"no records":            {map[string]string{formatKey: currentFormat}, "data.records is missing"},
		"no JSON":               {with(recordsKey, line+"x\n"), "data.records line 2: "},
		"half a line":           {with(recordsKey, line[:len(line)/2]), "data.records line 1: "},
		"an empty line":         {with(recordsKey, "\n"+line), "data.records line 1: "},
		"two on a line":         {with(recordsKey, strings.TrimSpace(line)+line), "line 1: there is something behind the record"},
		"an unknown field":      {with(recordsKey, strings.Replace(line, `"host"`, `"new":1,"host"`, 1)), `unknown field "new"`},
		"no host":               {with(recordsKey, strings.Replace(line, "a.test", "", 1)), "the record of 240.240.0.1 has no host"},
		"no address":            {with(recordsKey, strings.Replace(line, "240.240.0.1", "", 1)), "want an IPv4 or IPv6 address"},
		"an address of another": {with(recordsKey, strings.Replace(line, "240.240.0.1", "240.240.0.2", 1)), "the record of 240.240.0.2 belongs to meshvm-vip-ledger-"},
		"an address twice":      {with(recordsKey, line+line), "line 2: 240.240.0.1 has a record already"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parseShard(number, test.data); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("parseShard: got %v, want an error with %q", err, test.want)
			}
		})
	}
	if _, err := parseShard(number, good); err != nil {
		t.Errorf("parseShard of what was encoded: got %v, want no error", err)
	}
}

// FuzzParseShard has whatever is understood come out again as it was.
func FuzzParseShard(f *testing.F) {
	address := netip.MustParseAddr("240.240.0.1")
	content, err := encodeShard(map[netip.Addr]vip.Record{address: longest(address)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content[recordsKey])
	f.Add("")
	f.Add(`{"address":"2001:2::1","host":"a","owner":{},"since":"0001-01-01T00:00:00Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		// Any other shard than that of its first address refuses it.
		number := 0
		line, _, _ := strings.Cut(text, "\n")
		if record, err := parseRecord([]byte(line)); err == nil && record.Address.IsValid() {
			number = shardOf(record.Address)
		}
		records, err := parseShard(number, map[string]string{formatKey: currentFormat, recordsKey: text})
		if err != nil {
			return
		}
		content, err := encodeShard(records)
		if err != nil {
			return // It is too large.
		}
		again, err := parseShard(number, content)
		if err != nil {
			t.Fatalf("parse what was encoded: %v", err)
		}
		if !maps.EqualFunc(records, again, vip.Record.Equal) {
			t.Errorf("records: got %v, want %v", again, records)
		}
	})
}
