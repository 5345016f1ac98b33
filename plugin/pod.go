package meshvm

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// podName is a name below `pod.ZONE`, taken apart.
type podName struct {
	// label is the pod's address with dashes, namespace where it is said to be. Both may be empty.
	label, namespace string
	// exists: there is such a namespace.
	exists bool
}

// cutPod takes a name of the cluster's domain apart: `LABEL.NAMESPACE.pod.DOMAIN`, and the names above it.
func cutPod(state *mirror.State, name string) (podName, bool) {
	domain := state.ClusterDomain()
	if !hasSuffix(name, domain) {
		return podName{}, false
	}
	labels := strings.TrimSuffix(strings.TrimSuffix(name, domain), ".")
	if labels == "pod" {
		return podName{}, true
	}
	labels, found := strings.CutSuffix(labels, ".pod")
	if !found {
		return podName{}, false
	}
	pod := podName{namespace: labels}
	if label, namespace, more := strings.Cut(labels, "."); more {
		pod.label, pod.namespace = label, namespace
	}
	services := pod.namespace + ".svc." + domain
	pod.exists = state.Encloses(services) || state.Host(services) != nil
	return pod, true
}

// resolvePod replies to a query for a pod's name. What is asked is what is answered: pods are not
// followed, as with `pods insecure` of CoreDNS's kubernetes plugin.
func (m *Meshvm) resolvePod(q *query, pod podName, zone *zone) (*dns.Msg, outcome) {
	if pod.namespace == "" {
		return m.replyNoData(q, zone)
	}
	if m.config.Pods != PodsInsecure || !pod.exists {
		return m.replyUnknown(q, zone)
	}
	if pod.label == "" {
		return m.replyNoData(q, zone)
	}
	address, valid := podAddress(pod.label)
	if !valid {
		return m.replyUnknown(q, zone)
	}
	record := m.addressRecord(q.asked, address)
	if record.Header().Rrtype != q.qtype {
		return m.replyNoData(q, zone)
	}
	record.Header().Ttl = m.config.EndpointTTL // Pods come and go.
	return m.replyWith(q, []dns.RR{record})
}

// podAddress is the address that a label stands for: three single dashes make it IPv4, any others IPv6.
func podAddress(label string) (netip.Addr, bool) {
	separator := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		separator = "."
	}
	address, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
	if err != nil || address.Zone() != "" {
		return netip.Addr{}, false
	}
	return address.Unmap(), true
}
