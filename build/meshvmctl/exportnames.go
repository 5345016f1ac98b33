package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// exportedName is a name of the mesh and what a VM answers for it.
type exportedName struct {
	Name string `json:"name"`
	// Addresses are in order, IPv4 first.
	Addresses []string `json:"addresses,omitempty"`
	// Alias is the name that this one stands for.
	Alias string `json:"alias,omitempty"`
	// Wildcard: every name below the rest of it is answered so.
	Wildcard bool `json:"wildcard,omitempty"`
}

// exportedNames is every name, in order of the names read from their ends, so that a domain's are together.
func exportedNames(state *mirror.State) []exportedName {
	var names []exportedName
	for host := range state.Hosts() {
		names = append(names, exported(host))
		for _, endpoint := range host.Endpoints() {
			names = append(names, exported(endpoint))
		}
	}
	slices.SortFunc(names, func(a, b exportedName) int {
		left, right := strings.Split(a.Name, "."), strings.Split(b.Name, ".")
		slices.Reverse(left)
		slices.Reverse(right)
		return cmp.Or(slices.Compare(left, right), cmp.Compare(a.Name, b.Name))
	})
	return slices.CompactFunc(names, func(a, b exportedName) bool { return a.Name == b.Name })
}

func exported(host *mirror.Host) exportedName {
	name := strings.TrimSuffix(host.FQDN(), ".")
	return exportedName{
		Name: name, Alias: host.ExternalName, Wildcard: strings.HasPrefix(name, "*."),
		Addresses: append(recordedAddresses(host.A), recordedAddresses(host.AAAA)...),
	}
}

// recordedAddresses are those of a set of address records, in order.
func recordedAddresses(set *mirror.RRset) []string {
	if set == nil {
		return nil
	}
	var addresses []string
	for _, record := range set.RRs {
		switch record := record.(type) {
		case *dns.A:
			addresses = append(addresses, record.A.String())
		case *dns.AAAA:
			addresses = append(addresses, record.AAAA.String())
		}
	}
	slices.Sort(addresses)
	return addresses
}

// How files begin that export wrote.
const (
	exportedHosts = "# Names of the mesh"
	exportedJSON  = "{\n  \"namespace\": "
)

// isOfTheMachine is whether a hosts file would take a name from the machine that only the mesh's DNS server should give, and that
// resolvers ask the hosts file for first: localhost, and names without a dot.
func isOfTheMachine(name string) bool {
	return !strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost")
}

// writeHosts writes names as hosts(5) has them.
func writeHosts(to io.Writer, copied *mirror.Mirror, names []exportedName) error {
	state := copied.State()
	var text strings.Builder
	fmt.Fprintf(&text, "%s as namespace %s sees them, current at %s: meshvmctl export.\n# It is of that moment: a hosts file follows nothing. Append it to the machine's own: localhost is not in it.\n",
		exportedHosts, cmp.Or(state.View(), "(none)"), copied.ConfirmedAt().UTC().Format(time.RFC3339))
	for _, name := range names {
		switch {
		case name.Alias != "":
			fmt.Fprintf(&text, "# %s is another name of %s: a hosts file has no aliases\n", name.Name, name.Alias)
		case len(name.Addresses) == 0:
			fmt.Fprintf(&text, "# %s has no address\n", name.Name)
		case isOfTheMachine(name.Name):
			fmt.Fprintf(&text, "# %s is %s: left to the machine\n", name.Name, strings.Join(name.Addresses, " "))
		case name.Wildcard:
			fmt.Fprintf(&text, "# %s is %s: a hosts file has no wildcards\n", name.Name, strings.Join(name.Addresses, " "))
		default:
			for _, address := range name.Addresses {
				fmt.Fprintf(&text, "%s\t%s\n", address, name.Name)
			}
		}
	}
	_, err := io.WriteString(to, text.String())
	return err
}

// writeExportedJSON writes names for programs.
func writeExportedJSON(to io.Writer, copied *mirror.Mirror, names []exportedName) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Namespace string         `json:"namespace"`
		CurrentAt time.Time      `json:"currentAt"`
		Names     []exportedName `json:"names"`
	}{copied.State().View(), copied.ConfirmedAt().UTC(), names})
}
