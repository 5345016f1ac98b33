package status

import (
	"context"
	"net/url"
	"time"
)

// Question is what Explain is asked.
type Question struct {
	// Name is as a program would give it to CoreDNS: fully qualified, with or without the dot at the end.
	Name string
	// Type is that of the record: A, AAAA, CNAME, PTR, SRV and so on. Empty: A.
	Type string
}

// Explanation says what a process would answer a query, and why. Later versions add fields and change none.
type Explanation struct {
	// Name is in lower case and without the dot at the end.
	Name string    `json:"name"`
	Type string    `json:"type"`
	At   time.Time `json:"at"`
	// Block is the keys of the Server Block that answers.
	Block []string `json:"block,omitempty"`
	// Plugins are those of the block, in the order in which a query meets them.
	Plugins []string `json:"plugins,omitempty"`
	// Outcome is answered, nodata, nxdomain, servfail, refused, pending (nodata until a virtual IP comes), notimp or passed-on.
	Outcome string `json:"outcome"`
	// Reason says in a sentence why.
	Reason string `json:"reason"`
	// Match is how the name was found: exact, wildcard, endpoint, short-name, port, pod, reverse, apex, zone (a name that the
	// plugin makes up), enclosed (there are names below it) or none.
	Match string `json:"match"`
	// Host is the host of the mesh that answers, or wildcard that covers the name. Empty: none.
	Host string `json:"host,omitempty"`
	// ClosestEncloser is the longest name above it that exists (RFC 4592), where it does not.
	ClosestEncloser string `json:"closest_encloser,omitempty"`
	// Rcode and Records are the answer as it would be sent. A name outside the mesh is not looked up for it.
	Rcode   string   `json:"rcode,omitempty"`
	Records []string `json:"records,omitempty"`
	// Target is what an alias leads to, where others are asked for it.
	Target string `json:"target,omitempty"`
	// Upstreams are the resolvers that a query goes to which is passed on.
	Upstreams []string `json:"upstreams,omitempty"`
	// Claims are those of Host, winners first.
	Claims []Claim `json:"claims,omitempty"`
	// Nearest are names like it that this machine may see, the likest first.
	Nearest []string `json:"nearest,omitempty"`
	// Hints are what the operator should try, a sentence each.
	Hints []string `json:"hints,omitempty"`
	// Namespace is the machine's, and Zones the mesh's own.
	Namespace string   `json:"namespace,omitempty"`
	Zones     []string `json:"zones,omitempty"`
	// Loaded, Synced, Revision and StalenessSeconds are as in Mirror. Stale: beyond max_stale.
	Loaded           bool    `json:"loaded"`
	Synced           bool    `json:"synced"`
	Revision         uint64  `json:"revision"`
	StalenessSeconds float64 `json:"staleness_seconds"`
	Stale            bool    `json:"stale"`
}

// Claim is an object's claim of a host.
type Claim struct {
	// Key is that of the resource, Object its kind, namespace and name.
	Key    string `json:"key"`
	Object string `json:"object"`
	Winner bool   `json:"winner"`
	// Reason is why it won or not.
	Reason       string   `json:"reason"`
	AddressKind  string   `json:"address_kind,omitempty"`
	Addresses    []string `json:"addresses,omitempty"`
	ExternalName string   `json:"external_name,omitempty"`
	Headless     bool     `json:"headless,omitempty"`
	// CreatedAt is the object's creation. Absent: not known, which counts as the oldest.
	CreatedAt time.Time `json:"created_at,omitzero"`
}

// Explain asks the process that serves a socket what it would answer a question, and why. Nothing is sent to anybody for it. The
// error is a *Refusal where something is wrong with the question.
func Explain(ctx context.Context, path string, question Question) (Explanation, error) {
	values := url.Values{"name": {question.Name}}
	if question.Type != "" {
		values.Set("type", question.Type)
	}
	var explanation Explanation
	err := get(ctx, path, "/explain?"+values.Encode(), &explanation)
	return explanation, err
}

// Refusal is what is wrong with a Question.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }
