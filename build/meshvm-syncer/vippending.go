package main

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/syncer/source"
)

// Answers for a host that is due a virtual IP and has none yet.
const (
	pendingPass   = "pass"
	pendingNoData = "nodata"
)

const (
	defaultPendingTimeout = 30 * time.Second
	// maxPendingTimeout keeps a control plane that allocates nothing from taking names away for good.
	maxPendingTimeout = 10 * time.Minute
)

// pendingFlags are the flags of what becomes of hosts until their virtual IPs come.
type pendingFlags struct {
	answer  string
	timeout time.Duration
}

func (p *pendingFlags) declare(flags *pflag.FlagSet) {
	flags.StringVar(&p.answer, "vip-pending", pendingPass, "`ANSWER` for a host that is due a virtual IP and has none yet: pass it on to the VM's other servers, or nodata for a time")
	flags.DurationVar(&p.timeout, "vip-pending-timeout", defaultPendingTimeout, "`DURATION` of nodata, from the ServiceEntry's creation or from when the host became due; then it is passed on")
}

// options checks the flags.
func (p *pendingFlags) options() (source.Pending, error) {
	switch {
	case p.answer != pendingPass && p.answer != pendingNoData:
		return source.Pending{}, fmt.Errorf("--vip-pending %q: want %s or %s", p.answer, pendingPass, pendingNoData)
	case p.timeout <= 0 || p.timeout > maxPendingTimeout:
		return source.Pending{}, fmt.Errorf("--vip-pending-timeout %s: want more than nothing and at most %s", p.timeout, maxPendingTimeout)
	case p.answer == pendingPass:
		return source.Pending{}, nil
	}
	return source.Pending{Hold: p.timeout}, nil
}

// countPending registers the gauge of hosts whose virtual IPs are awaited.
func countPending(metrics prometheus.Registerer, ips *source.VirtualIPs) error {
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "meshvm_syncer_vip_pending_hosts",
		Help: "Hosts of ServiceEntries that are due a virtual IP and have none in the status.",
	}, func() float64 { return float64(ips.Waiting()) })
	if err := metrics.Register(gauge); err != nil {
		return fmt.Errorf("register metrics of virtual IPs: %w", err)
	}
	return nil
}
