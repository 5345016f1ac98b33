package status

import (
	"fmt"
	"time"
)

// DefaultSocket is where the process serves its Report unless the Corefile says otherwise.
const DefaultSocket = "/run/meshvm/status.sock"

// Report is how a process's mirrors stand. Later versions add fields and change none.
type Report struct {
	// Version is that of the process, At the time on its clock.
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	// Servers are where the process answers DNS over UDP and TCP.
	Servers []Listener `json:"servers,omitempty"`
	// Upstreams are the resolvers that plugin forward asks, as host:port, sorted. Empty: there are none, or another plugin asks.
	Upstreams []string `json:"upstreams,omitempty"`
	Mirrors   []Mirror `json:"mirrors"`
}

// Listener is an address that DNS is answered at.
type Listener struct {
	// Address is IP:PORT.
	Address string `json:"address"`
}

// Mirror is one copy of a registry.
type Mirror struct {
	// Syncers, Namespace and Node are as in the Corefile.
	Syncers   []string `json:"syncers"`
	Namespace string   `json:"namespace,omitempty"`
	Node      string   `json:"node,omitempty"`
	// Zones are the mesh's own, such as cluster.local.
	Zones []string `json:"zones,omitempty"`
	// ConnectedAddress is the syncer that is followed. Empty: none. Since is when that began, either way.
	ConnectedAddress string    `json:"connected_address,omitempty"`
	Since            time.Time `json:"since,omitzero"`
	// Synced: the syncer has proved on this stream that the mirror equals its view.
	Synced bool `json:"synced"`
	// Loaded: there is a registry to answer from. The fields up to StalenessSeconds are of it.
	Loaded bool `json:"loaded"`
	// View is the VM's namespace as the syncer has it from the VM's identity.
	View       string `json:"view,omitempty"`
	Generation string `json:"generation,omitempty"`
	Revision   uint64 `json:"revision"`
	Resources  int    `json:"resources"`
	// Names is how many hosts have a name, wildcards among them. Endpoints have more, below those of their Services.
	Names int `json:"names"`
	// ConfirmedAt is when the registry was last known to be current, and StalenessSeconds how long ago that is.
	ConfirmedAt      time.Time `json:"confirmed_at,omitzero"`
	StalenessSeconds float64   `json:"staleness_seconds"`
	// MaxStaleSeconds is from when on answers are called stale.
	MaxStaleSeconds float64 `json:"max_stale_seconds"`
	// SnapshotFile keeps the registry between runs. Empty: nothing does.
	SnapshotFile string       `json:"snapshot_file,omitempty"`
	Credentials  []Credential `json:"credentials,omitempty"`
	// Problem is why no syncer is followed. Nil: none is known.
	Problem *Problem `json:"problem,omitempty"`
}

// Credential is what a VM proves itself with.
type Credential struct {
	// Kind is certificate or token.
	Kind string `json:"kind"`
	File string `json:"file"`
	// Subject is the SPIFFE ID or the ServiceAccount that it says it is for, which nobody has verified here.
	Subject string `json:"subject,omitempty"`
	// Expires is when it ends. Zero: that is not known.
	Expires time.Time `json:"expires,omitzero"`
	// Fault is why the file cannot be used. Empty: it can.
	Fault string `json:"fault,omitempty"`
}

// Problem is what is wrong, and what to do.
type Problem struct {
	// Since is when it began, At when it came last, Address with which syncer.
	Since   time.Time `json:"since"`
	At      time.Time `json:"at"`
	Address string    `json:"address,omitempty"`
	// Cause is a label of coredns_meshvm_disconnects_total, Reason what a syncer says that lets the VM not in.
	Cause   string `json:"cause"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	// Remedy is what to do. Empty: nothing but to wait.
	Remedy string `json:"remedy,omitempty"`
}

// Faults is what is wrong with a mirror at the time of the Report, a line each. None: it is well.
func (m Mirror) Faults(at time.Time) []string {
	var faults []string
	if m.ConnectedAddress == "" {
		faults = append(faults, "no syncer is followed")
	}
	switch {
	case !m.Loaded:
		faults = append(faults, "no registry was ever loaded, so names of the mesh are not answered")
	case m.StalenessSeconds > m.MaxStaleSeconds:
		faults = append(faults, fmt.Sprintf("the registry is stale: it was last known to be current %s ago", seconds(m.StalenessSeconds)))
	}
	for _, c := range m.Credentials {
		if c.Fault != "" {
			faults = append(faults, fmt.Sprintf("the %s cannot be used: %s", c.Kind, c.Fault))
		}
		if !c.Expires.IsZero() && !at.Before(c.Expires) {
			faults = append(faults, fmt.Sprintf("the %s in %s ended %s ago", c.Kind, c.File, at.Sub(c.Expires).Round(time.Second)))
		}
	}
	return faults
}

func seconds(s float64) time.Duration { return time.Duration(s) * time.Second }
