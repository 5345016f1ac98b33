package meshvm

import (
	"time"

	"github.com/coredns/coredns/plugin/pkg/fall"
)

// Values that hold where the Corefile says nothing.
const (
	// DefaultZone is the cluster domain of nearly every Kubernetes cluster.
	DefaultZone = "cluster.local."
	// DefaultSnapshotFile is where the registry outlives the process.
	DefaultSnapshotFile = "/var/lib/meshvm/registry.snapshot"
	// DefaultMaxStale is the age from which an answer is called stale.
	DefaultMaxStale = time.Hour
	// DefaultTTL is the TTL of addresses that do not move, in seconds.
	DefaultTTL uint32 = 30
	// DefaultEndpointTTL is the TTL of endpoints' addresses, in seconds.
	DefaultEndpointTTL uint32 = 5
	// MaxTTL is the longest TTL a Corefile may ask for, in seconds, as in the
	// kubernetes plugin.
	MaxTTL uint32 = 3600
)

// Config is what one meshvm block of a Corefile asks for, checked and with the
// defaults filled in. It is never changed after parse returned it.
type Config struct {
	// Zones are the zones meshvm is the authority of: lower case, with the final
	// dot, reverse networks already expanded to their in-addr.arpa or ip6.arpa
	// zones. At least one of them is not a reverse zone.
	Zones []string

	// StreamConfig says how to reach the syncer.
	StreamConfig

	// SnapshotFile holds the registry between runs. Empty: nothing is kept.
	SnapshotFile string

	// StatusSocket is where the process tells how its mirrors stand. Empty: nowhere.
	StatusSocket string

	// MaxStale is the age of the registry from which StaleAction applies. Positive.
	MaxStale time.Duration
	// StaleAction is what a query gets once the registry is older than MaxStale.
	StaleAction StaleAction

	// TTL and EndpointTTL are in seconds, 0 to MaxTTL.
	TTL, EndpointTTL uint32

	// ShortNames answers NAME, NAME.NAMESPACE and NAME.NAMESPACE.svc too.
	ShortNames bool

	// Search is the rest of the machine's search list, after the mesh's own domains: lower case, with the
	// final dot, in the order of the Corefile, each once.
	Search []string

	// Pods says whether names of pods are answered.
	Pods PodMode

	// Rebind withholds answers from upstream that point into the mesh. Nil: none.
	Rebind *RebindProtection

	// Fall says for which names inside Zones a miss goes on to the next plugin.
	Fall fall.F
}

// StreamConfig is the part of a Config that decides which stream a block needs.
// Two blocks with equal StreamConfigs and snapshot files can share one mirror.
type StreamConfig struct {
	// Syncers are the addresses, host:port, in the order of the Corefile.
	Syncers []string
	// Insecure is plaintext; every syncer is then on loopback.
	Insecure bool
	// TLS names the files of the connection; they were readable and well formed
	// at setup, and are to be read again when they change.
	TLS TLSFiles
	// TLSServerName is the name expected in the syncer's certificate. Empty: the
	// host of the address.
	TLSServerName string
	// TokenFile holds a bearer token, to be read for every connection. Empty: none.
	TokenFile string
	// Namespace is the VM's namespace where no identity says it. Empty: unknown.
	Namespace string
	// Node is the name the VM goes by.
	Node string
}

// TLSFiles are the PEM files of a client connection. All paths are absolute, or
// relative to the working directory where the Corefile has no root. A zero value
// means no client certificate and the system's certificate authorities.
type TLSFiles struct {
	// Cert and Key are the client's; both or none are set.
	Cert, Key string
	// CA verifies the syncer. Empty: the system's certificate authorities.
	CA string
}

// StaleAction is the second argument of max_stale.
type StaleAction uint8

const (
	// StaleServe goes on answering, and says so with an extended error (RFC 8914,
	// Stale Answer) to a client that sent EDNS.
	StaleServe StaleAction = iota
	// StaleFail answers SERVFAIL.
	StaleFail
)

// String returns the word the Corefile uses.
func (a StaleAction) String() string {
	if a == StaleFail {
		return "fail"
	}
	return "serve"
}

// PodMode is the argument of pods.
type PodMode uint8

const (
	// PodsDisabled knows no pods.
	PodsDisabled PodMode = iota
	// PodsInsecure answers an address written with dashes, in a namespace that exists, with that address.
	// Nobody checks that there is such a pod.
	PodsInsecure
)

// String returns the word the Corefile uses.
func (p PodMode) String() string {
	if p == PodsInsecure {
		return "insecure"
	}
	return "disabled"
}
