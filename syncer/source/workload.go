package source

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	metav1alpha1 "istio.io/api/meta/v1alpha1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// HealthCheckAnnotation says whether a WorkloadEntry is probed. One that is counts as unhealthy until
	// a probe has succeeded.
	HealthCheckAnnotation = "proxy.istio.io/health-checks-enabled"
	// healthyCondition is where istiod writes what the probes say.
	healthyCondition = "Healthy"
	// unixPrefix starts the address of a workload that listens on a Unix socket.
	unixPrefix = "unix://"
)

// workload is what a WorkloadEntry or a Pod adds to the hosts of what selects it. It is immutable.
type workload struct {
	labels map[string]string
	// hostname is its name below those hosts: one label or more. Empty: it can have none.
	hostname string
	// addresses are those that can stand in a record, perhaps none.
	addresses []netip.Addr
	healthy   bool
	// ports are its own by their names, in lower case.
	ports map[string]uint32
}

func (w *workload) equal(other *workload) bool {
	if w == nil || other == nil {
		return w == other
	}
	return maps.Equal(w.labels, other.labels) && w.hostname == other.hostname && w.healthy == other.healthy &&
		slices.Equal(w.addresses, other.addresses) && maps.Equal(w.ports, other.ports)
}

// selectedBy reports whether all labels of a selector are the workload's. Without labels a selector selects
// nothing, as in Kubernetes and Istio.
func (w *workload) selectedBy(selector map[string]string) bool {
	if w == nil || len(selector) == 0 {
		return false
	}
	for key, value := range selector {
		if own, found := w.labels[key]; !found || own != value {
			return false
		}
	}
	return true
}

// workloadEntry translates a WorkloadEntry: what it yields is decided by what selects it.
func (t *Translator) workloadEntry(d *draft, entry *networkingv1.WorkloadEntry) {
	d.rejectName("metadata.name", d.object.Name, wantSubdomain, validation.IsDNS1123Subdomain(d.object.Name))
	d.rejectName("metadata.namespace", d.object.Namespace, wantLabel, validation.IsDNS1123Label(d.object.Namespace))
	if d.rejected {
		return
	}
	w := &workload{
		labels:    workloadLabels(entry),
		hostname:  d.object.Name,
		addresses: workloadAddresses(d, entry.Spec.GetAddress()),
		healthy:   Healthy(entry),
		ports:     workloadPorts(d, entry.Spec.GetPorts()),
	}
	if _, err := canonicalHost(w.hostname); err != nil {
		d.report(Partial, "metadata.name", fmt.Sprintf("%q is no DNS name: %v", w.hostname, err), wantSubdomain)
		w.hostname = ""
	}
	t.holdWorkload(objectName{d.object.Namespace, d.object.Name}, w)
}

// workloadLabels are the labels of the spec and of the object, of which the latter are the stronger, as in
// Istio.
func workloadLabels(entry *networkingv1.WorkloadEntry) map[string]string {
	if len(entry.Labels) == 0 {
		return maps.Clone(entry.Spec.GetLabels())
	}
	labels := make(map[string]string, len(entry.Labels)+len(entry.Spec.GetLabels()))
	maps.Copy(labels, entry.Spec.GetLabels())
	maps.Copy(labels, entry.Labels)
	return labels
}

// workloadAddresses is the address, if it is one. A DNS name, a Unix socket and no address at all, which
// stands for the gateway of the workload's network, are valid but answer nothing.
func workloadAddresses(d *draft, text string) []netip.Addr {
	address, err := parseAddress(text)
	if err == nil {
		return []netip.Addr{address}
	}
	if text != "" && !strings.HasPrefix(text, unixPrefix) {
		if _, nameless := canonicalName(text); nameless != nil {
			d.report(Partial, "spec.address", fmt.Sprintf("%q: %v", text, err), wantAddress+", a DNS name or a Unix socket")
		}
	}
	return nil
}

// workloadPorts are the valid ones of the ports, by their names in lower case.
func workloadPorts(d *draft, ports map[string]uint32) map[string]uint32 {
	valid := make(map[string]uint32, len(ports))
	for _, name := range sortedNames(ports) {
		if number := ports[name]; validPort(number) {
			valid[strings.ToLower(name)] = number
		} else {
			d.report(Partial, fmt.Sprintf("spec.ports[%s]", name), fmt.Sprintf("%d is no port", number), wantPort)
		}
	}
	return valid
}

// Healthy reports whether a WorkloadEntry may be answered. It is Istio's rule: one that is probed must have
// been found healthy, all others are taken to be. Beyond that, one whose condition says that it is not is
// taken at its word even where no annotation says that it is probed.
func Healthy(entry *networkingv1.WorkloadEntry) bool {
	conditions := entry.Status.GetConditions()
	i := slices.IndexFunc(conditions, func(c *metav1alpha1.IstioCondition) bool { return c.GetType() == healthyCondition })
	if i >= 0 {
		switch corev1.ConditionStatus(conditions[i].GetStatus()) {
		case corev1.ConditionTrue:
			return true
		case corev1.ConditionFalse:
			return false
		}
	}
	probed, err := strconv.ParseBool(entry.Annotations[HealthCheckAnnotation])
	return err != nil || !probed
}

// pod notes a Pod. It yields nothing itself: its addresses are answered by the ServiceEntries that select it.
func (t *Translator) pod(d *draft, pod *corev1.Pod) {
	t.holdPod(objectName{d.object.Namespace, d.object.Name}, podWorkload(pod))
}

// podWorkload is a Pod as what selects it sees it.
func podWorkload(pod *corev1.Pod) *workload {
	w := &workload{labels: maps.Clone(pod.Labels), healthy: PodAnswers(pod)}
	if !w.healthy {
		return w
	}
	ips := pod.Status.PodIPs
	if len(ips) == 0 {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, ip := range ips {
		// None yet, or none that DNS knows: never the Pod's fault.
		if address, err := parseAddress(ip.IP); err == nil {
			w.addresses = append(w.addresses, address)
		}
	}
	return w
}

// PodAnswers reports whether a Pod is one whose addresses are answered: it is ready, and not on its way out.
func PodAnswers(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
