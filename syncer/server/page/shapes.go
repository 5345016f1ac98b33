package page

import "time"

// Overview is /status/api/overview, and the data of every event.
type Overview struct {
	Ready bool `json:"ready"`
	// Missing is what the syncer waits for where it is not ready.
	Missing    string    `json:"missing"`
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`
	Generation string    `json:"generation"`
	Revision   uint64    `json:"revision"`
	Resources  int       `json:"resources"`
	Watchers   int       `json:"watchers"`
	Views      int       `json:"views"`
	Lagging    int       `json:"lagging"`
	Sources    []Source  `json:"sources"`
	Holds      []Hold    `json:"holds"`
}

// Source is a source of the registry.
type Source struct {
	Name   string `json:"name"`
	Synced bool   `json:"synced"`
	// AgeSeconds is for how long its picture has not been known to be current.
	AgeSeconds int64 `json:"ageSeconds"`
}

// Hold is what the shrink guard keeps of a kind.
type Hold struct {
	Source string    `json:"source"`
	Kind   string    `json:"kind"`
	Live   int       `json:"live"`
	Held   int       `json:"held"`
	Since  time.Time `json:"since"`
	Ends   time.Time `json:"ends"`
}

// Replica is /status/api/replica: what this syncer knows of itself, and where the others are.
type Replica struct {
	Name       string    `json:"name"`
	Version    string    `json:"version"`
	Generation string    `json:"generation"`
	Started    time.Time `json:"started"`
	// Allocator names the replica that gives virtual IPs, where that is known.
	Allocator string `json:"allocator"`
	// Known is false where this syncer was not told of which Service the others are.
	Known    bool            `json:"known"`
	Replicas []ReplicaStatus `json:"replicas"`
}

// ReplicaStatus is one of the syncers, as the cluster has it.
type ReplicaStatus struct {
	Address string `json:"address"`
	Node    string `json:"node"`
	Zone    string `json:"zone"`
	Ready   bool   `json:"ready"`
	// Ending: its pod was told to end.
	Ending bool `json:"ending"`
	// This: it is the one that says so.
	This bool `json:"this"`
}

// VM is one that watches.
type VM struct {
	Node       string    `json:"node"`
	Namespace  string    `json:"namespace"`
	Identity   string    `json:"identity"`
	Address    string    `json:"address"`
	Version    string    `json:"version"`
	Mode       string    `json:"mode"`
	Since      time.Time `json:"since"`
	Acked      uint64    `json:"acked"`
	Lag        uint64    `json:"lag"`
	LagSeconds float64   `json:"lagSeconds"`
}

// VMs is /status/api/vms: one page of those that match.
type VMs struct {
	Total   int  `json:"total"`
	Matched int  `json:"matched"`
	Page    int  `json:"page"`
	Pages   int  `json:"pages"`
	VMs     []VM `json:"vms"`
}

// Names is /status/api/names: hosts with a prefix.
type Names struct {
	Hosts []string `json:"hosts"`
	// More is set where there are more than are shown.
	More bool `json:"more"`
}

// VIPs is /status/api/vips.
type VIPs struct {
	// Known is false where this syncer does not know of virtual IPs.
	Known     bool       `json:"known"`
	Mode      string     `json:"mode"`
	Allocator string     `json:"allocator"`
	Ranges    []VIPRange `json:"ranges"`
	// States counts hosts by their state.
	States map[string]int `json:"states"`
	// Rows are some hosts that are not in order or in quarantine.
	Rows []VIPRow `json:"rows"`
}

// VIPRange is how much of a range is used.
type VIPRange struct {
	Range       string `json:"range"`
	Addresses   uint64 `json:"addresses"`
	Used        int    `json:"used"`
	Quarantined int    `json:"quarantined"`
}

// VIPRow is one host.
type VIPRow struct {
	Host      string   `json:"host"`
	State     string   `json:"state"`
	Addresses []string `json:"addresses"`
	Note      string   `json:"note"`
}
