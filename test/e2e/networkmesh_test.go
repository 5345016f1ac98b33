//go:build linux

package e2e

import (
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/test/programs"
)

// Addresses on a host of a network. No two hosts share them.
const (
	meshPort    = 15054
	httpAddress = "127.0.0.1:15055"
)

// mesh is a machine and syncers on a network, each on a host of its own. The syncers serve one folder.
type mesh struct {
	*network
	syncers []*meshSyncer
	vm      *host
	machine *machine

	folder string
	// want is what the manifests in the folder say.
	want map[meshQuestion]string
	// version is the last that change wrote, fresh the name that came with it.
	version int
	fresh   string
	// before is what the programs took when nothing had happened yet.
	before footprint
}

// meshSyncer is a syncer on a host.
type meshSyncer struct {
	host    *host
	process *programs.Process
	flags   []string
}

// newMesh starts so many syncers and a machine that follows them, over TLS, and waits until it is in step.
func newMesh(t *testing.T, syncers int) *mesh {
	t.Helper()
	m := &mesh{network: newNetwork(t, syncers+1), folder: t.TempDir()}
	m.furnish()
	m.change()

	identities := newAuthority(t)
	identities.client("vm", "prod")
	var addresses []string
	for _, h := range m.hosts[1:] {
		name := h.ip.String()
		identities.issue(name, &x509.Certificate{
			IPAddresses: []net.IP{h.ip.AsSlice()}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		s := &meshSyncer{host: h, flags: []string{
			"--manifests", m.folder, "--listen", h.at(meshPort), "--http-listen", httpAddress,
			"--tls-cert-file", identities.file(name), "--tls-private-key-file", identities.file(name + "-key"),
			"--client-ca-file", identities.file("root-cert"),
		}}
		s.start()
		m.syncers, addresses = append(m.syncers, s), append(addresses, h.at(meshPort))
	}
	m.vm = m.hosts[0]
	m.machine = newMachineOn(t, m.vm, addresses, append(identities.lines("vm"), "max_stale "+maxStale.String())...)
	m.agrees()
	m.before = m.footprint()
	return m
}

// newMachineOn is newMachine on a host of a network. It has no upstream: a query for a name outside the
// mesh is refused.
func newMachineOn(t *testing.T, h *host, syncers []string, lines ...string) *machine {
	t.Helper()
	m := &machine{
		t:        t,
		address:  "127.0.0.1:53",
		ready:    "127.0.0.1:8181",
		metrics:  "127.0.0.1:9153",
		snapshot: filepath.Join(t.TempDir(), "registry.snapshot"),
		corefile: filepath.Join(t.TempDir(), "Corefile"),
		inside:   h.inside,
	}
	write(t, filepath.Dir(m.corefile), filepath.Base(m.corefile), fmt.Sprintf(`. {
    bind 127.0.0.1
    errors
    ready %s
    prometheus %s
    meshvm {
        syncer %s
        snapshot %s
        %s
    }
}
`, m.ready, m.metrics, strings.Join(syncers, " "), m.snapshot, strings.Join(lines, "\n        ")))
	m.boot()
	return m
}

// start starts the syncer, for the first time or again.
func (s *meshSyncer) start() {
	t := s.host.t
	t.Helper()
	if err := s.host.inside(func() { s.process = programs.Start(t, programs.Syncer, s.flags...) }); err != nil {
		t.Fatal(err)
	}
	s.process.WaitFor(t, "msg=serving")
}

func (s *meshSyncer) metrics() (map[string]float64, error) {
	body, _, err := getThrough(s.host.dial, "http://"+httpAddress+"/metrics")
	return numbersOn(body), err
}

// numbersOn is the numbers on a page of metrics by what stands before them.
func numbersOn(page string) map[string]float64 {
	found := map[string]float64{}
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ') // labels may have spaces
		if value, err := strconv.ParseFloat(line[end+1:], 64); err == nil && end > 0 {
			found[line[:end]] = value
		}
	}
	return found
}
