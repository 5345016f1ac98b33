package kubernetes

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	kindService     = "Service"
	kindNode        = "Node"
	kindServiceCIDR = "ServiceCIDR"
	kindEntry       = "ServiceEntry"
)

// holding is an object, and the addresses that it has.
type holding struct {
	metav1.ObjectMeta
	prefixes []netip.Prefix
}

func newHolding(object metav1.Object, texts ...[]string) *holding {
	h := &holding{ObjectMeta: metav1.ObjectMeta{
		Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
	}}
	for _, list := range texts {
		for _, text := range list {
			if prefix, ok := parsePrefix(text); ok { // The cluster IP None is none, a node's host name neither.
				h.prefixes = append(h.prefixes, prefix)
			}
		}
	}
	return h
}

// serviceFeed is the cluster IPs. External addresses are not looked at: traffic to them does not stay in the
// mesh, and whoever has one within the ranges has it from elsewhere.
func (t *term) serviceFeed() feed {
	client := t.controller.clients.core.Services(metav1.NamespaceAll)
	return t.holderFeed(kindService, "services", &corev1.Service{}, feed{
		listWatch: listWatch(client.List, client.Watch),
		trim: func(object runtime.Object) metav1.Object {
			service, ok := object.(*corev1.Service)
			if !ok {
				return nil
			}
			return newHolding(service, service.Spec.ClusterIPs)
		},
	})
}

// nodeFeed is the ranges of Pods and the addresses of nodes.
func (t *term) nodeFeed() feed {
	client := t.controller.clients.core.Nodes()
	return t.holderFeed(kindNode, "nodes", &corev1.Node{}, feed{
		listWatch: listWatch(client.List, client.Watch),
		trim: func(object runtime.Object) metav1.Object {
			node, ok := object.(*corev1.Node)
			if !ok {
				return nil
			}
			addresses := make([]string, 0, len(node.Status.Addresses))
			for _, address := range node.Status.Addresses {
				addresses = append(addresses, address.Address)
			}
			return newHolding(node, node.Spec.PodCIDRs, []string{node.Spec.PodCIDR}, addresses)
		},
	})
}

// serviceCIDRFeed is the ranges that cluster IPs are given from.
func (t *term) serviceCIDRFeed() feed {
	client := t.controller.clients.networking.ServiceCIDRs()
	return t.holderFeed(kindServiceCIDR, "servicecidrs", &networkingv1.ServiceCIDR{}, feed{
		listWatch: listWatch(client.List, client.Watch),
		trim: func(object runtime.Object) metav1.Object {
			cidr, ok := object.(*networkingv1.ServiceCIDR)
			if !ok {
				return nil
			}
			return newHolding(cidr, cidr.Spec.CIDRs)
		},
	})
}

func (t *term) holderFeed(kind, resource string, example runtime.Object, f feed) feed {
	f.resource, f.example = resource, example
	f.put = func(object metav1.Object) {
		if h, ok := object.(*holding); ok {
			t.view.putHolder(holder{kind, h.Namespace, h.Name}, h.prefixes)
		}
	}
	f.remove = func(namespace, name string) { t.view.putHolder(holder{kind, namespace, name}, nil) }
	return f
}
