package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/netip"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/syncer/vip"
)

// entry is of a ServiceEntry what allocation depends on.
type entry struct {
	metav1.ObjectMeta
	// resource is the version that it was read in.
	resource schema.GroupVersionResource
	// hosts are due virtual IPs.
	hosts []string
	// literals are the addresses of its spec.
	literals []netip.Prefix
	status   status
	// fault is why its spec could not be read. Nothing is written to it then.
	fault error
}

// status is what a ServiceEntry's status holds, and how exactly it does: that is what a patch tests.
type status struct {
	present bool
	// addresses and conditions are as they stand there. Nil: not there.
	addresses, conditions json.RawMessage
	// held are the addresses that are valid.
	held []vip.HostAddress
	// conditionAt is where the condition of ours is in conditions, of as many as there are.
	conditionAt, conditionCount int
	condition                   *condition
}

func (e *entry) owner() vip.Owner { return vip.Owner{Namespace: e.Namespace, Name: e.Name} }

func (e *entry) claim() vip.Claim {
	return vip.Claim{Owner: e.owner(), CreatedAt: e.CreationTimestamp.Time, Hosts: e.hosts, Status: e.status.held}
}

// readEntry keeps of a ServiceEntry what counts. One whose spec cannot be read claims the hosts that its
// status has: what it was before.
func readEntry(raw *unstructured.Unstructured, resource schema.GroupVersionResource) *entry {
	e := &entry{resource: resource, ObjectMeta: metav1.ObjectMeta{
		Namespace:         raw.GetNamespace(),
		Name:              raw.GetName(),
		UID:               raw.GetUID(),
		ResourceVersion:   raw.GetResourceVersion(),
		Generation:        raw.GetGeneration(),
		CreationTimestamp: raw.GetCreationTimestamp(),
	}}
	e.status, e.fault = readStatus(raw.Object["status"])
	var decoded networkingv1.ServiceEntry
	decoded.Labels = raw.GetLabels()
	encoded, err := json.Marshal(raw.Object["spec"])
	if err == nil && raw.Object["spec"] != nil {
		err = decoded.Spec.UnmarshalJSON(encoded)
	}
	if err != nil {
		e.fault = fmt.Errorf("spec: %w", err)
	}
	if e.fault != nil {
		for _, held := range e.status.held {
			e.hosts = append(e.hosts, held.Host)
		}
		return e
	}
	e.hosts = source.VirtualIPHosts(&decoded)
	for _, text := range decoded.Spec.GetAddresses() {
		if prefix, ok := parsePrefix(text); ok {
			e.literals = append(e.literals, prefix)
		}
	}
	return e
}

// readStatus never fails as a whole: addresses and conditions that are not valid are passed over.
func readStatus(raw any) (status, error) {
	if raw == nil {
		return status{}, nil
	}
	s := status{present: true}
	content, ok := raw.(map[string]any)
	if !ok {
		return s, fmt.Errorf("status: it is a %T, want an object", raw)
	}
	var err error
	if s.addresses, err = encode(content["addresses"]); err != nil {
		return s, fmt.Errorf("status.addresses: %w", err)
	}
	if s.conditions, err = encode(content["conditions"]); err != nil {
		return s, fmt.Errorf("status.conditions: %w", err)
	}
	addresses, _ := content["addresses"].([]any)
	for _, element := range addresses {
		fields, _ := element.(map[string]any)
		host, _ := fields["host"].(string)
		value, _ := fields["value"].(string)
		if address, err := netip.ParseAddr(value); err == nil && address.Zone() == "" && host != "" {
			s.held = append(s.held, vip.HostAddress{Host: host, Address: address.Unmap()})
		}
	}
	conditions, _ := content["conditions"].([]any)
	s.conditionCount = len(conditions)
	for i, element := range conditions {
		fields, _ := element.(map[string]any)
		if kind, _ := fields["type"].(string); kind == ConditionType {
			s.conditionAt, s.condition = i, readCondition(fields)
			break
		}
	}
	return s, nil
}

func encode(value any) (json.RawMessage, error) {
	if value == nil {
		return nil, nil
	}
	return json.Marshal(value)
}

// parsePrefix reads an address or a range.
func parsePrefix(text string) (netip.Prefix, bool) {
	if address, err := netip.ParseAddr(text); err == nil {
		return single(address), true
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix, err == nil
}

func single(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	return netip.PrefixFrom(address, address.BitLen())
}
