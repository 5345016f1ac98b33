package kubernetes

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/meshvm/meshvm/syncer/vip"
)

// operation is one step of a JSON patch (RFC 6902). All of a patch is done or nothing.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value,omitempty"`
}

var null = json.RawMessage("null")

const (
	statusPath     = "/status"
	addressesPath  = statusPath + "/addresses"
	conditionsPath = statusPath + "/conditions"
)

// patchAddresses writes addresses to a status, if the object, its spec and its addresses are still those that
// were seen. That of a JSON null is how a patch tests that something is not there.
func patchAddresses(e *entry, addresses []vip.HostAddress) ([]operation, error) {
	type hostAddress struct {
		Host  string `json:"host"`
		Value string `json:"value"`
	}
	list := make([]hostAddress, 0, len(addresses))
	for _, address := range addresses {
		list = append(list, hostAddress{address.Host, address.Address.String()})
	}
	value, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode status.addresses: %w", err)
	}
	switch {
	case len(list) == 0 && e.status.addresses != nil:
		return onlyIf(e, operation{"test", addressesPath, e.status.addresses}, operation{Op: "remove", Path: addressesPath}), nil
	case e.status.addresses != nil:
		return onlyIf(e, operation{"test", addressesPath, e.status.addresses}, operation{"replace", addressesPath, value}), nil
	case e.status.present:
		return onlyIf(e, operation{"test", addressesPath, null}, operation{"add", addressesPath, value}), nil
	default:
		return onlyIf(e, operation{"test", statusPath, null}, operation{"add", statusPath, object("addresses", value)}), nil
	}
}

// patchCondition makes the condition of ours what it should be, nil: none. Those of others stay as they are,
// and it fails when they are not as they were seen.
func patchCondition(e *entry, c *condition, now time.Time) ([]operation, error) {
	var value json.RawMessage
	if c != nil {
		var err error
		if value, err = c.encode(now); err != nil {
			return nil, err
		}
	}
	s := e.status
	same := operation{"test", conditionsPath, s.conditions}
	own := conditionsPath + "/" + strconv.Itoa(s.conditionAt)
	switch {
	case s.condition != nil && c == nil && s.conditionCount == 1:
		return onlyIf(e, same, operation{Op: "remove", Path: conditionsPath}), nil
	case s.condition != nil && c == nil:
		return onlyIf(e, same, operation{Op: "remove", Path: own}), nil
	case s.condition != nil:
		return onlyIf(e, same, operation{"replace", own, value}), nil
	case s.conditions != nil:
		return onlyIf(e, same, operation{"add", conditionsPath + "/-", value}), nil
	case s.present:
		return onlyIf(e, operation{"test", conditionsPath, null}, operation{"add", conditionsPath, list(value)}), nil
	default:
		return onlyIf(e, operation{"test", statusPath, null}, operation{"add", statusPath, object("conditions", list(value))}), nil
	}
}

// onlyIf has a patch fail on an object that took the place of the one that was seen, and on another spec.
func onlyIf(e *entry, operations ...operation) []operation {
	return append([]operation{
		{"test", "/metadata/uid", fmt.Appendf(nil, "%q", e.UID)},
		{"test", "/metadata/generation", strconv.AppendInt(nil, e.Generation, 10)},
	}, operations...)
}

func object(key string, value json.RawMessage) json.RawMessage {
	return fmt.Appendf(nil, "{%q:%s}", key, value)
}

func list(element json.RawMessage) json.RawMessage { return fmt.Appendf(nil, "[%s]", element) }
