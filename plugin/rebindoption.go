package meshvm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// RebindProtection is what rebind_protection asks for.
type RebindProtection struct {
	// Ranges are those of the mesh's virtual IPs, none of them of IPv4-mapped addresses.
	Ranges []netip.Prefix
	// Except are domains whose names may point into the mesh: lower case, without the final dot.
	Except []string
}

// DefaultRebindRanges are the ranges that Istio and the syncer take virtual IPs from.
func DefaultRebindRanges() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("240.240.0.0/16"), netip.MustParsePrefix("2001:2::/48")}
}

// setRebindProtection reads ranges, then domains behind the word except, both of which may be missing.
func setRebindProtection(p *blockParser, args []string) error {
	protection := &RebindProtection{}
	ranges, domains := args, []string(nil)
	if i := slices.Index(args, exceptWord); i >= 0 {
		if ranges, domains = args[:i], args[i+1:]; len(domains) == 0 {
			return errors.New("except lacks its domains; expected one or more such as corp.example.org")
		}
	}
	for _, arg := range ranges {
		prefix, err := parseRange(arg)
		if err != nil {
			return fmt.Errorf("range %q: %w; expected one such as 240.240.0.0/16 or 2001:2::/48, or except DOMAINS", arg, err)
		}
		if slices.Contains(protection.Ranges, prefix) {
			return fmt.Errorf("range %q is given twice", arg)
		}
		protection.Ranges = append(protection.Ranges, prefix)
	}
	if len(protection.Ranges) == 0 {
		protection.Ranges = DefaultRebindRanges()
	}
	for _, arg := range domains {
		if arg == exceptWord || !isDomain(arg) {
			return fmt.Errorf("%q is not a domain; expected one such as corp.example.org, behind all ranges", arg)
		}
		domain := canonical(arg)
		if slices.Contains(protection.Except, domain) {
			return fmt.Errorf("domain %q is given twice", arg)
		}
		protection.Except = append(protection.Except, domain)
	}
	p.config.Rebind = protection
	return nil
}

// exceptWord stands between ranges and domains, as in the forward plugin.
const exceptWord = "except"

// parseRange refuses what is not a range, and what would withhold half of the Internet by a slip.
func parseRange(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		return netip.Prefix{}, errors.New("not a network in CIDR notation")
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("not a network in CIDR notation")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("bits are set behind the prefix, the network is %s", prefix.Masked())
	case prefix.Bits() == 0:
		return netip.Prefix{}, errors.New("no answer at all would be let through")
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("an IPv4-mapped network is written as that of IPv4")
	}
	return prefix, nil
}
