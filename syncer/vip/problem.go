package vip

// Reason is why something is wrong with a ServiceEntry's virtual IPs, as Kubernetes spells reasons.
type Reason string

const (
	// Exhausted means that there is no address left to give.
	Exhausted Reason = "AddressesExhausted"
	// Conflict means that an address in the status is another's. It is replaced when patience ends.
	Conflict Reason = "AddressConflict"
	// Divergent means that another allocator has given one host several addresses. They are left alone.
	Divergent Reason = "SeveralAddresses"
)

// Problem is one thing that is wrong, with one host.
type Problem struct {
	Reason Reason
	Host   string
	// Message says what, for people, and does not repeat the host.
	Message string
}
