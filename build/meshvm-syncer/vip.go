package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	sourcekubernetes "github.com/meshvm/meshvm/syncer/source/kubernetes"
	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/syncer/vip/kubernetes"
)

// podNamespaceFile is where Kubernetes tells a pod its own namespace.
const podNamespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// vipFlags are the flags of virtual IPs.
type vipFlags struct {
	mode       string
	ranges     []string
	quarantine time.Duration
	namespace  string
	qps        float32
}

// vipSettings are the flags of virtual IPs, checked.
type vipSettings struct {
	// allocate says that this program gives virtual IPs.
	allocate  bool
	options   vip.Options
	namespace string
	qps       float32
}

func (v *vipFlags) declare(flags *pflag.FlagSet) {
	flags.StringVar(&v.mode, "vip", "status", "virtual IPs of ServiceEntry hosts without addresses: `MODE` status takes what their status says; allocate gives them as well, where no control plane does")
	flags.StringSliceVar(&v.ranges, "vip-ranges", vip.DefaultRanges, "`RANGES` that --vip allocate gives addresses from, in CIDR form, separated by commas")
	flags.DurationVar(&v.quarantine, "vip-quarantine", vip.DefaultQuarantine, "`DURATION` that an address that --vip allocate gave rests after its host is gone, until another host may have it")
	flags.StringVar(&v.namespace, "vip-namespace", "", "`NAMESPACE` of the Lease and the ledger of --vip allocate (default the pod's own, else \""+kubernetes.DefaultNamespace+"\")")
	flags.Float32Var(&v.qps, "vip-qps", kubernetes.DefaultQPS, "most `WRITES` per second that --vip allocate sends to the API server")
}

// settings checks the flags.
func (v *vipFlags) settings(given func(name string) bool) (vipSettings, error) {
	ranges, err := vip.ParseRanges(v.ranges)
	switch {
	case v.mode != "status" && v.mode != "allocate":
		return vipSettings{}, fmt.Errorf("--vip %q: want status or allocate", v.mode)
	case err != nil:
		return vipSettings{}, fmt.Errorf("--vip-ranges: %w", err)
	case v.quarantine <= 0:
		return vipSettings{}, fmt.Errorf("--vip-quarantine %s: want a time such as 24h", v.quarantine)
	case v.qps <= 0:
		return vipSettings{}, fmt.Errorf("--vip-qps %v: want more than 0", v.qps)
	case given("vip-namespace") && len(validation.IsDNS1123Label(v.namespace)) > 0:
		return vipSettings{}, fmt.Errorf("--vip-namespace %q: want the name of a namespace", v.namespace)
	}
	if v.mode == "status" {
		for _, name := range []string{"vip-ranges", "vip-quarantine", "vip-namespace", "vip-qps"} {
			if given(name) {
				return vipSettings{}, fmt.Errorf("--%s goes with --vip allocate only", name)
			}
		}
		return vipSettings{}, nil
	}
	return vipSettings{
		allocate:  true,
		options:   vip.Options{Ranges: ranges, Quarantine: v.quarantine},
		namespace: v.namespace,
		qps:       v.qps,
	}, nil
}

// openAllocator is what gives virtual IPs, nil where the flags do not ask for that.
func openAllocator(s settings, log *slog.Logger, metrics prometheus.Registerer) (*kubernetes.Controller, error) {
	if !s.vip.allocate || s.manifests != "" { // The source of manifests allocates by itself.
		return nil, nil
	}
	reach, err := sourcekubernetes.RESTConfig(s.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--vip allocate: %w", err)
	}
	namespace := s.vip.namespace
	if namespace == "" && s.kubeconfig == "" {
		own, err := os.ReadFile(podNamespaceFile)
		if err != nil {
			return nil, fmt.Errorf("--vip allocate: find this pod's namespace, or give --vip-namespace: %w", err)
		}
		namespace = strings.TrimSpace(string(own))
	}
	allocator, err := kubernetes.New(kubernetes.Config{
		REST:       reach,
		Namespace:  namespace,
		Allocation: s.vip.options,
		QPS:        s.vip.qps,
		Version:    version,
		Log:        log,
		Metrics:    metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("--vip allocate: %w", err)
	}
	return allocator, nil
}
