package meshvm

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
)

// redirectState is where meshvmctl redirect remembers what it has changed on this machine. All may read it.
const redirectState = "/var/lib/meshvm-redirect/state.json"

// redirectStateLimit is how much of it is read.
const redirectStateLimit = 8 << 20

// redirectNone is the mode of a machine that is not redirected. redirectModes are all modes.
const redirectNone = "none"

var redirectModes = []string{"delegate", "resolved", "networkmanager", "resolvconf", "openresolv", "direct", redirectNone}

// redirectMode tells how this machine's names come to CoreDNS, by the file as it is when somebody asks.
type redirectMode struct{ file string }

func init() { prometheus.MustRegister(redirectMode{redirectState}) }

var redirectModeDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "redirect_mode"),
	"Whether name resolution of this machine is redirected by a mode (1) or not (0). With none (1) it is not, or given back until CoreDNS answers.", []string{"mode"}, nil)

// Describe implements prometheus.Collector.
func (redirectMode) Describe(descs chan<- *prometheus.Desc) { descs <- redirectModeDesc }

// Collect implements prometheus.Collector. Where nobody can tell there is no metric, rather than a wrong one.
func (r redirectMode) Collect(metrics chan<- prometheus.Metric) {
	current, err := r.mode()
	if err != nil || !slices.Contains(redirectModes, current) {
		return
	}
	for _, mode := range redirectModes {
		value := 0.0
		if mode == current {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(redirectModeDesc, prometheus.GaugeValue, value, mode)
	}
}

// mode is the one in force. A file of an earlier boot is gone before CoreDNS starts.
func (r redirectMode) mode() (string, error) {
	file, err := os.OpenFile(r.file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return redirectNone, nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	var state struct {
		Applied   bool   `json:"applied"`
		Withdrawn string `json:"withdrawn"`
		Plan      struct {
			Mode string `json:"mode"`
		} `json:"plan"`
	}
	if err := json.NewDecoder(io.LimitReader(file, redirectStateLimit)).Decode(&state); err != nil {
		return "", err
	}
	if !state.Applied || state.Withdrawn != "" {
		return redirectNone, nil
	}
	return state.Plan.Mode, nil
}
