package vip

import (
	"cmp"
	"net/netip"
	"strings"
	"time"
)

// Owner names a ServiceEntry.
type Owner struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String is `namespace/name`.
func (o Owner) String() string { return o.Namespace + "/" + o.Name }

func compareOwners(a, b Owner) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// HostAddress is one entry of a ServiceEntry's status.addresses.
type HostAddress struct {
	// Host as the spec spells it.
	Host    string
	Address netip.Addr
}

// Claim is what a ServiceEntry wants and has.
type Claim struct {
	Owner Owner
	// CreatedAt decides who is the elder. Of the same age, the one that comes first by namespace and name.
	CreatedAt time.Time
	// Hosts are those of its spec that are due virtual IPs, as it spells them. None: it does not qualify.
	Hosts []string
	// Status is its status.addresses, in order. Entries without a valid address are left out.
	Status []HostAddress
}

// claim is a Claim as the allocator holds it.
type claim struct {
	Claim
	// hosts are the canonical Hosts, each once, and spelling says how the spec spells them.
	hosts    []string
	spelling map[string]string
	// held is the last address of each family that the status gives a host: the one that counts.
	held map[string]pair
}

// pair is a host's addresses, at most one of each family.
type pair [2]netip.Addr

func newClaim(from Claim) *claim {
	c := &claim{Claim: from, spelling: make(map[string]string, len(from.Hosts)), held: make(map[string]pair, len(from.Hosts))}
	for _, spelled := range from.Hosts {
		host := canonical(spelled)
		if _, again := c.spelling[host]; !again {
			c.spelling[host] = spelled
			c.hosts = append(c.hosts, host)
		}
	}
	for _, entry := range from.Status {
		host := canonical(entry.Host)
		held := c.held[host]
		held[familyOf(entry.Address)] = entry.Address
		c.held[host] = held
	}
	return c
}

// wants reports whether the ServiceEntry claims the host.
func (c *claim) wants(host string) bool {
	_, found := c.spelling[host]
	return found
}

// canonical is a host as the ledger spells it: lower case, no trailing dot.
func canonical(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// compareAge orders claims, the elder first.
func compareAge(a, b *claim) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), compareOwners(a.Owner, b.Owner))
}
