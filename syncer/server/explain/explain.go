// Package explain is the answer of a syncer's /debug/registry: what a name resolves to for a VM of one
// namespace, from which object, and why. It holds the JSON's structure and nothing else, so that who
// reads it links none of the syncer.
//
// Fields are only ever added.
package explain

import "time"

// Outcome is what a VM does with a query.
type Outcome string

// The outcomes.
const (
	// Answered: there are records of a type that was asked for.
	Answered Outcome = "answered"
	// NoData: the name is there, records of these types are not (RFC 2308, section 2.2).
	NoData Outcome = "nodata"
	// NameError is NXDOMAIN: the cluster's zone has no such name.
	NameError Outcome = "nxdomain"
	// PassedOn: the mesh has no say; the VM asks its next plugin, usually an upstream server.
	PassedOn Outcome = "passed-on"
)

// Explanation says what a name resolves to and why.
type Explanation struct {
	// Name is the name asked for, lower case, without the trailing dot. For PTR it may be an address.
	Name string `json:"name"`
	// Types are the record types asked for: A, AAAA, CNAME, PTR, SRV.
	Types []string `json:"types"`
	// Namespace is whose view was asked for. Empty: of a VM that has none.
	Namespace string `json:"namespace"`
	// Sidecar is the Istio Sidecar that says what the VM sees. Absent: it sees all that is exported to it.
	Sidecar *Object `json:"sidecar,omitempty"`

	// Ready is false as long as the syncer serves nobody: the answer may lack what is not there yet.
	Ready bool `json:"ready"`
	// Revision of the registry.
	Revision uint64 `json:"revision"`
	// ClusterDomain is the zone in which the mesh has the last word.
	ClusterDomain string `json:"clusterDomain"`

	Outcome Outcome `json:"outcome"`
	// Reason says in a sentence why the outcome is what it is.
	Reason string `json:"reason"`
	// Records are the answer, each once.
	Records []Record `json:"records,omitempty"`
	// Host is the host that answers: the name itself, the wildcard that covers it, the headless Service
	// that it is an endpoint of, or the service whose port it is.
	Host string `json:"host,omitempty"`
	// AddressKind says what the addresses are: cluster IP, literal, virtual IP, endpoint.
	AddressKind string `json:"addressKind,omitempty"`
	// Objects are what the answer comes from. More than one when ServiceEntries are joined.
	Objects []Object `json:"objects,omitempty"`

	// Candidates are all hosts that could answer the name and that any object claims, the closest match
	// first, also where the namespace sees none of them.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Endpoints of the headless Service that answers, ready or not.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// Record is one record of the answer.
type Record struct {
	// Type of the record: A, AAAA, CNAME, PTR, SRV.
	Type string `json:"type"`
	// Value in presentation format; names without the trailing dot. Of SRV: priority, weight, port,
	// target (RFC 2782).
	Value string `json:"value"`
	// TTL in seconds. A syncer does not know it, as VMs are configured with their own.
	TTL uint32 `json:"ttl,omitempty"`
}

// Object names a Kubernetes object.
type Object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Cluster is empty for the only one.
	Cluster string `json:"cluster,omitempty"`
}

// String is `Kind namespace/name`.
func (o Object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	if o.Cluster != "" {
		name += "@" + o.Cluster
	}
	return o.Kind + " " + name
}

// Candidate is one host that could answer, with everything that claims it.
type Candidate struct {
	Host string `json:"host"`
	// Chosen is set on the host that answers.
	Chosen bool    `json:"chosen"`
	Claims []Claim `json:"claims"`
}

// Claim is one object's claim of a host.
type Claim struct {
	// Key of the resource in the registry.
	Key    string `json:"key"`
	Object Object `json:"object"`
	// ExportTo is who sees the claim, as in Istio's exportTo: `*`, `~`, or namespaces.
	ExportTo string `json:"exportTo"`
	// Visible to the namespace asked for.
	Visible bool `json:"visible"`
	// Hidden is set on what would be visible if the Sidecar imported it.
	Hidden bool `json:"hidden,omitempty"`
	// Winner of all visible claims of this host.
	Winner bool `json:"winner"`
	// Reason why it won or not.
	Reason       string   `json:"reason"`
	AddressKind  string   `json:"addressKind,omitempty"`
	Addresses    []string `json:"addresses,omitempty"`
	Ports        []Port   `json:"ports,omitempty"`
	Headless     bool     `json:"headless,omitempty"`
	ExternalName string   `json:"externalName,omitempty"`
	// CreatedAt is the object's creation. Absent where it is not known, which counts as the oldest.
	CreatedAt *time.Time `json:"createdAt,omitempty"`
}

// Port is a port of a service or of an endpoint, each list of them without repetition.
type Port struct {
	// Name is empty where there is none that a DNS label could hold.
	Name string `json:"name,omitempty"`
	// Protocol as SRV names have it: tcp, udp or sctp. Empty where it is not known.
	Protocol string `json:"protocol,omitempty"`
	// Number is zero for any port whatever.
	Number uint16 `json:"number"`
}

// Endpoint is one backend of a headless Service.
type Endpoint struct {
	// Slice is the EndpointSlice that lists it.
	Slice Object `json:"slice"`
	// Names are the endpoint's own names: by its hostname, or else by each address with dashes.
	Names     []string `json:"names"`
	Addresses []string `json:"addresses"`
	// Ports that it listens on. None means any: no SRV record can say that.
	Ports []Port `json:"ports,omitempty"`
	// Ready endpoints are answered, others are not.
	Ready       bool   `json:"ready"`
	Serving     bool   `json:"serving"`
	Terminating bool   `json:"terminating"`
	Zone        string `json:"zone,omitempty"`
	Node        string `json:"node,omitempty"`
}
