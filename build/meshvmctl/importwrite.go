package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// serviceEntry is what is written of one: the fields in the order in which people write them.
type serviceEntry struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Metadata   entryMetadata    `json:"metadata"`
	Spec       serviceEntrySpec `json:"spec"`
}

type entryMetadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
}

type serviceEntrySpec struct {
	Hosts     []string `json:"hosts"`
	Addresses []string `json:"addresses"`
	ExportTo  []string `json:"exportTo,omitempty"`
	// Resolution NONE: connections go where they are sent, as they did before.
	Location   string `json:"location"`
	Resolution string `json:"resolution"`
}

// write writes a ServiceEntry for each name, in order.
func (i *imported) write(to io.Writer, namespace string, exportTo []string) error {
	for _, host := range slices.Sorted(maps.Keys(i.names)) {
		addresses := slices.Clone(i.names[host])
		slices.SortFunc(addresses, netip.Addr.Compare)
		entry := serviceEntry{
			APIVersion: "networking.istio.io/v1", Kind: "ServiceEntry",
			Metadata: entryMetadata{Name: entryName(host), Namespace: namespace, Labels: map[string]string{"app.kubernetes.io/managed-by": "meshvmctl-import"}},
			Spec:     serviceEntrySpec{Hosts: []string{host}, ExportTo: exportTo, Location: "MESH_EXTERNAL", Resolution: "NONE"},
		}
		for _, address := range addresses {
			entry.Spec.Addresses = append(entry.Spec.Addresses, address.String())
		}
		text, err := yaml.Marshal(entry)
		if err != nil {
			return fmt.Errorf("write %s: %w", host, err)
		}
		if _, err := fmt.Fprintf(to, "---\n%s", text); err != nil {
			return fmt.Errorf("write %s: %w", host, err)
		}
	}
	return nil
}

// maxEntryName is what Kubernetes allows for a label of DNS, which is shorter than for most names and good everywhere.
const maxEntryName = 63

// entryName is a name for the ServiceEntry of a host, another one for each: dots become dashes, and what that could confuse, or is
// too long, gets a sum of the host.
func entryName(host string) string {
	readable := strings.ReplaceAll(strings.Replace(host, "*", "any", 1), ".", "-")
	if len(readable) <= maxEntryName && !strings.Contains(host, "-") && !strings.HasPrefix(host, "any.") {
		return readable
	}
	sum := fnv.New64a()
	_, _ = io.WriteString(sum, host) // A hash takes everything.
	return fmt.Sprintf("%s-%016x", strings.TrimRight(readable[:min(len(readable), maxEntryName-17)], "-"), sum.Sum64())
}
