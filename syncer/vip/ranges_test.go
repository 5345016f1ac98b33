package vip

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseRanges(t *testing.T) {
	tests := map[string]struct {
		texts []string
		want  string // Of the error. Empty: none.
	}{
		"Istio's own":                 {DefaultRanges, ""},
		"several of a family":         {[]string{"10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "fd00:2::/64"}, ""},
		"one family only":             {[]string{"fd00::/108"}, ""},
		"white space around":          {[]string{" 10.1.0.0/24 "}, ""},
		"none":                        {nil, "no ranges"},
		"no prefix":                   {[]string{"240.240.0.0"}, `range "240.240.0.0": want CIDR form`},
		"no address":                  {[]string{"a/8"}, `range "a/8": want CIDR form`},
		"IPv4 in IPv6":                {[]string{"::ffff:10.0.0.0/104"}, "want CIDR form"},
		"bits beyond the prefix":      {[]string{"240.240.1.0/16"}, "want 240.240.0.0/16"},
		"twice":                       {[]string{"10.1.0.0/24", "10.1.0.0/24"}, "overlaps 10.1.0.0/24"},
		"one in the other":            {[]string{"10.0.0.0/8", "10.1.0.0/24"}, "overlaps 10.0.0.0/8"},
		"loopback":                    {[]string{"127.1.0.0/16"}, "loopback"},
		"all of IPv4":                 {[]string{"0.0.0.0/0"}, "unspecified"},
		"link-local":                  {[]string{"fe80::/64"}, "link-local"},
		"multicast":                   {[]string{"239.0.0.0/16"}, "multicast"},
		"everyone's address":          {[]string{"255.255.255.0/24"}, "broadcast"},
		"a single address":            {[]string{"10.1.0.7/32"}, ""},
		"a single one that ends in 0": {[]string{"10.1.0.0/32"}, "no address of it can be given"},
		"a single IPv6 address":       {[]string{"fd00::/128"}, "no address of it can be given"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRanges(test.texts)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestSlots(t *testing.T) {
	tests := map[string]struct {
		prefix      string
		count       uint64
		first, last string
	}{
		"a /16":                        {"240.240.0.0/16", 65024, "240.240.0.1", "240.240.255.254"},
		"a /24":                        {"10.1.2.0/24", 254, "10.1.2.1", "10.1.2.254"},
		"a /23":                        {"10.1.2.0/23", 508, "10.1.2.1", "10.1.3.254"},
		"the lower half of a /24":      {"10.1.2.0/25", 127, "10.1.2.1", "10.1.2.127"},
		"the upper half of a /24":      {"10.1.2.128/25", 127, "10.1.2.128", "10.1.2.254"},
		"the middle of a /24":          {"10.1.2.64/26", 64, "10.1.2.64", "10.1.2.127"},
		"one address":                  {"10.1.2.9/32", 1, "10.1.2.9", "10.1.2.9"},
		"all of IPv4 that is a /8":     {"10.0.0.0/8", 254 << 16, "10.0.0.1", "10.255.255.254"},
		"an IPv6 /112":                 {"2001:2::/112", 65535, "2001:2::1", "2001:2::ffff"},
		"an IPv6 /48, as much as used": {"2001:2::/48", maxSlots, "2001:2::1", "2001:2:0:0:4000::"},
		"an IPv6 /127":                 {"fd00::2/127", 1, "fd00::3", "fd00::3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			prefix := netip.MustParsePrefix(test.prefix)
			count := slotsIn(prefix)
			if count != test.count {
				t.Fatalf("slots: got %d, want %d", count, test.count)
			}
			if got := slotAt(prefix, 0).String(); got != test.first {
				t.Errorf("first: got %s, want %s", got, test.first)
			}
			if got := slotAt(prefix, count-1).String(); got != test.last {
				t.Errorf("last: got %s, want %s", got, test.last)
			}
		})
	}
}

// Every slot of a range is another address of it, and none ends in .0 or .255.
func TestSlotsAreDistinct(t *testing.T) {
	for _, text := range []string{"10.1.0.0/20", "10.1.0.128/25", "fd00::/118"} {
		t.Run(text, func(t *testing.T) {
			prefix := netip.MustParsePrefix(text)
			seen := map[netip.Addr]bool{}
			for slot := range slotsIn(prefix) {
				address := slotAt(prefix, slot)
				last := address.AsSlice()[len(address.AsSlice())-1]
				if seen[address] || !prefix.Contains(address) || address.Is4() && (last == 0 || last == 255) {
					t.Fatalf("slot %d: got %s", slot, address)
				}
				seen[address] = true
			}
		})
	}
}

func FuzzParseRanges(f *testing.F) {
	f.Add("240.240.0.0/16,2001:2::/48")
	f.Add("10.0.0.0/8,10.1.0.0/16")
	f.Add("::ffff:1.2.3.4/120")
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := ParseRanges(strings.Split(text, ","))
		if err != nil {
			return
		}
		for _, prefix := range ranges.All() {
			count := slotsIn(prefix)
			for _, slot := range []uint64{0, count / 2, count - 1} {
				if address := slotAt(prefix, slot); !prefix.Contains(address) || !ranges.Contains(address) {
					t.Errorf("slot %d of %s: got %s", slot, prefix, address)
				}
			}
			again, err := ParseRanges([]string{prefix.String()})
			if err != nil || !slices.Equal(again.All(), []netip.Prefix{prefix}) {
				t.Errorf("%s read again: got %v, %v", prefix, again.All(), err)
			}
		}
	})
}
