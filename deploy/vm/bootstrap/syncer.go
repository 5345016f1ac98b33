package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// syncerPort is the port for VMs that a syncer has unless told otherwise.
const syncerPort = 15054

// FindSyncer returns the addresses, HOST:PORT, of a syncer's load balancer: all of its Service's ingresses, at its
// port 15054 or else the only one it has. An error says what to give instead.
func (c *Cluster) FindSyncer(ctx context.Context, service types.NamespacedName) ([]string, error) {
	object, err := c.core.Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Service %s: want --syncer HOST:PORT, or --syncer-namespace and --syncer-service", service)
	}
	if err != nil {
		return nil, fmt.Errorf("find the syncer by Service %s (or give --syncer HOST:PORT): %w", service, err)
	}
	addresses, err := balanced(object)
	if err != nil {
		return nil, fmt.Errorf("Service %s %w: want --syncer HOST:PORT", service, err)
	}
	return addresses, nil
}

// balanced is where a Service can be reached from outside. Its error goes on after the Service's name.
func balanced(service *corev1.Service) ([]string, error) {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil, fmt.Errorf("is of type %s and has no load balancer", service.Spec.Type)
	}
	ports := service.Spec.Ports
	at := slices.IndexFunc(ports, func(p corev1.ServicePort) bool { return p.Port == syncerPort })
	if at < 0 && len(ports) == 1 {
		at = 0
	}
	if at < 0 {
		return nil, fmt.Errorf("has several ports and none is %d", syncerPort)
	}
	port := strconv.Itoa(int(ports[at].Port))
	var addresses []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		for _, host := range []string{ingress.IP, ingress.Hostname} {
			if host == "" {
				continue
			}
			address := net.JoinHostPort(strings.TrimSuffix(host, "."), port)
			if err := CheckAddress(address); err != nil {
				return nil, fmt.Errorf("has a load balancer whose address %w", err)
			}
			if !slices.Contains(addresses, address) {
				addresses = append(addresses, address)
			}
		}
	}
	if len(addresses) == 0 {
		return nil, errors.New("has no address of its load balancer yet")
	}
	return addresses, nil
}

// ServiceName is what a syncer's certificate is expected to name when VMs reach it through its Service's load
// balancer, whose own name is not known when the certificate is made: SERVICE.NAMESPACE.svc.
func ServiceName(service types.NamespacedName) string {
	return service.Name + "." + service.Namespace + ".svc"
}

// CheckAddress reports what is no HOST:PORT of a syncer.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q: want HOST:PORT, such as syncer.example.org:15054", address)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("%q: port %q is not a number from 1 to 65535", address, port)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || ip.IsUnspecified() {
			return fmt.Errorf("%q: %s is no address of another machine", address, host)
		}
		return nil
	}
	if err := CheckDomain(host); err != nil {
		return fmt.Errorf("%q: host %w", address, err)
	}
	return nil
}

// CheckDomain reports what is no DNS name, or an absolute one.
func CheckDomain(name string) error {
	if problems := validation.IsDNS1123Subdomain(strings.ToLower(name)); len(problems) > 0 {
		return fmt.Errorf("%q is not a DNS name: %s", name, problems[0])
	}
	return nil
}
