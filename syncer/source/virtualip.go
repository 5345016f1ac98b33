package source

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// VirtualIPHosts are the hosts of a ServiceEntry that are due virtual IPs, as its spec spells them: those that
// may be asked for, unless it has addresses of its own, resolution NONE, or the label that says no. Wildcards
// are due them only with resolution DYNAMIC_DNS (Istio: ShouldV2AutoAllocateIP).
func VirtualIPHosts(entry *networkingv1.ServiceEntry) []string {
	if !hasVirtualIPs(entry) {
		return nil
	}
	var hosts []string
	for _, spelled := range entry.Spec.GetHosts() {
		if host, err := canonicalHost(spelled); err == nil && mayHaveVirtualIPs(host, entry) {
			hosts = append(hosts, spelled)
		}
	}
	return hosts
}

// hasVirtualIPs is the rule by which Istio allocates and Envoy listens: an address in the spec, a
// resolution of NONE or the label says no.
func hasVirtualIPs(entry *networkingv1.ServiceEntry) bool {
	return len(entry.Spec.GetAddresses()) == 0 &&
		entry.Spec.GetResolution() != networking.ServiceEntry_NONE &&
		!strings.EqualFold(entry.Labels[AutoAllocateLabel], "false")
}

// mayHaveVirtualIPs is what the rule says of one host.
func mayHaveVirtualIPs(host string, entry *networkingv1.ServiceEntry) bool {
	return entry.Spec.GetResolution() == networking.ServiceEntry_DYNAMIC_DNS || !strings.HasPrefix(host, registryv1.WildcardPrefix)
}
