//go:build linux

package e2e

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/test/programs"
)

// Ports of a host on a network. No two hosts share them.
const (
	meshPort    = 15054
	httpAddress = "127.0.0.1:15055"
)

// How long a VM may take to find out that its syncer is silent: three heartbeat intervals after the last
// word, which may come an interval after a cut that only the syncer's hearing suffers. The rest is for a busy
// machine.
const silenceBound = 4*5*time.Second + 15*time.Second

// mesh is a machine and syncers on a network, each on a host of its own. The syncers serve one folder.
type mesh struct {
	*network
	syncers []*meshSyncer
	vm      *host
	machine *machine

	folder string
	// names is what is to be answered for each name of a Service: an address, or NXDOMAIN.
	names map[string]string
	// version is the last that move wrote.
	version int
	// before is what the programs took when nothing had happened yet.
	before footprint
}

// meshSyncer is a syncer on a host.
type meshSyncer struct {
	host    *host
	process *programs.Process
	flags   []string
}

// often is the interval of what is waited for here.
const often = 50 * time.Millisecond

// steady and moving are Services: the one never changes, the other is moved again and again.
const (
	steady = "s7.prod.svc.cluster.local."
	moving = "moving.prod.svc.cluster.local."
)

// newMesh starts so many syncers and a machine that follows them, over TLS, and waits until it is in step.
func newMesh(t *testing.T, syncers int) *mesh {
	t.Helper()
	m := &mesh{network: newNetwork(t, syncers+1), folder: t.TempDir(), names: map[string]string{}}
	services := make([]string, 100)
	for i := range services {
		address := fmt.Sprintf("10.96.0.%d", i)
		services[i] = service(fmt.Sprintf("s%d.prod", i), address)
		m.names[fmt.Sprintf("s%d.prod.svc.cluster.local.", i)] = address
	}
	write(t, m.folder, "services.yaml", documents(services...))
	m.move()

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
	m.machine.answers(moving, dns.TypeA, m.names[moving])
	m.followed()
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
	return samples(body), err
}

// samples are the numbers on a page of metrics by what stands before them.
func samples(page string) map[string]float64 {
	found := map[string]float64{}
	for line := range strings.Lines(page) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(number, 64); err == nil {
			found[name] = value
		}
	}
	return found
}

// followed waits until the machine watches one syncer and all others are alone, and returns that one.
func (m *mesh) followed() (s *meshSyncer) {
	m.t.Helper()
	eventuallyAt(m.t, often, "the machine watches one syncer", func() error {
		s = nil
		for _, each := range m.syncers {
			values, err := each.metrics()
			if err != nil {
				return err
			}
			switch watchers := values["meshvm_syncer_watchers"]; {
			case watchers == 0:
			case watchers == 1 && s == nil:
				s = each
			default:
				return fmt.Errorf("%s has %v watchers, and it is not alone with them", each.host.ip, watchers)
			}
		}
		if s == nil {
			return fmt.Errorf("no syncer has watchers")
		}
		return nil
	})
	return s
}

// move gives the moving Service its next address.
func (m *mesh) move() {
	m.t.Helper()
	m.version++
	address := fmt.Sprintf("10.97.%d.%d", m.version/250, m.version%250)
	write(m.t, m.folder, "moving.yaml", service("moving.prod", address))
	m.names[moving] = address
}

// change moves the one, makes another Service and takes one away.
func (m *mesh) change() {
	m.t.Helper()
	m.move()
	name := fmt.Sprintf("new%d", m.version)
	address := fmt.Sprintf("10.98.%d.%d", m.version/250, m.version%250)
	write(m.t, m.folder, "new.yaml", service(name+".prod", address))
	for old := range m.names {
		if strings.HasPrefix(old, "new") {
			m.names[old] = "NXDOMAIN"
		}
	}
	m.names[name+".prod.svc.cluster.local."] = address
}

// versionOf is which move gave an address.
func versionOf(address string) (int, error) {
	var high, low int
	if _, err := fmt.Sscanf(address, "10.97.%d.%d", &high, &low); err != nil {
		return 0, fmt.Errorf("%q is no address of %s: %w", address, moving, err)
	}
	return high*250 + low, nil
}

// asking asks the machine without a pause until it is stopped. Every answer must be right at once: that
// for the steady Service always the same, that for the moving one never an older one.
func (m *mesh) asking() (stop func()) {
	m.t.Helper()
	conn, err := m.vm.dial(m.t.Context(), "udp", m.machine.address)
	if err != nil {
		m.t.Fatal(err)
	}
	var ended atomic.Bool
	var asker sync.WaitGroup
	asker.Go(func() {
		defer conn.Close()
		asked, version := 0, 0
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for ; !ended.Load(); asked++ {
			if err := rightAnswers(conn, &version); err != nil {
				m.t.Errorf("After %d right answers: %v", asked, err)
				return
			}
			<-pace.C
		}
		m.t.Logf("%d right answers meanwhile", asked)
		if asked == 0 {
			m.t.Error("Nothing was asked meanwhile: the test shows less than it says")
		}
	})
	return func() {
		ended.Store(true)
		asker.Wait()
	}
}

func rightAnswers(conn net.Conn, version *int) error {
	for _, name := range []string{steady, moving} {
		client := &dns.Client{Timeout: 5 * time.Second}
		reply, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(name, dns.TypeA), &dns.Conn{Conn: conn})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(reply.Answer) != 1 {
			return fmt.Errorf("%s: got %v", name, reply)
		}
		got := reply.Answer[0].(*dns.A).A.String()
		if name == steady {
			if got != "10.96.0.7" {
				return fmt.Errorf("%s: got %s, want 10.96.0.7", name, got)
			}
			continue
		}
		now, err := versionOf(got)
		if err != nil {
			return err
		}
		if now < *version {
			return fmt.Errorf("%s: got version %d after version %d", name, now, *version)
		}
		*version = now
	}
	return nil
}

// agrees holds the machine against the syncers: every name is answered as the manifests say, and what it
// holds has the revision, the number of resources and the digest that a syncer has now.
func (m *mesh) agrees() {
	t := m.t
	t.Helper()
	m.machine.answers(moving, dns.TypeA, m.names[moving])
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		m.machine.answers(name, dns.TypeA, m.names[name])
		if address := m.names[name]; address != "NXDOMAIN" {
			pointer, err := dns.ReverseAddr(address)
			if err != nil {
				t.Fatal(err)
			}
			m.machine.answers(pointer, dns.TypePTR, name)
		}
	}
	m.proven()
}

// proven waits for a heartbeat from now on whose revision, number and digest the mirror equals, and that
// revision to be the syncer's latest.
func (m *mesh) proven() {
	m.t.Helper()
	const equal, differs = `coredns_meshvm_heartbeats_total{equal="true"}`, `coredns_meshvm_heartbeats_total{equal="false"}`
	before := m.machineMetrics()
	eventuallyAt(m.t, often, "a heartbeat proves the mirror equal", func() error {
		now := m.machineMetrics()
		if now[equal] <= before[equal] {
			return fmt.Errorf("%v heartbeats proved it, as before", now[equal])
		}
		syncer := m.followed()
		values, err := syncer.metrics()
		if err != nil {
			return err
		}
		for name, value := range now {
			if strings.HasPrefix(name, "coredns_meshvm_revision{") && value != values["meshvm_syncer_registry_revision"] {
				return fmt.Errorf("revision: got %v, the syncer has %v", value, values["meshvm_syncer_registry_revision"])
			}
			if strings.HasPrefix(name, "coredns_meshvm_resources{") && value != values["meshvm_syncer_registry_resources"] {
				return fmt.Errorf("resources: got %v, the syncer has %v", value, values["meshvm_syncer_registry_resources"])
			}
		}
		return nil
	})
	if now := m.machineMetrics(); now[differs] > 0 {
		m.t.Errorf("Heartbeats that the mirror did not equal: got %v, want none", now[differs])
	}
}

func (m *mesh) machineMetrics() (values map[string]float64) {
	m.t.Helper()
	eventuallyAt(m.t, often, "metrics of the machine", func() error {
		body, _, err := m.machine.get(m.machine.metrics, "/metrics")
		values = samples(body)
		return err
	})
	return values
}

// footprint is what programs take: all syncers together, because a machine may have gone from one to
// another, and CoreDNS.
type footprint struct{ syncers, machine taken }

type taken struct{ goroutines, heap float64 }

func (t *taken) add(values map[string]float64) {
	t.goroutines += values["go_goroutines"]
	t.heap += values["go_memstats_heap_inuse_bytes"]
}

// exceeds reports whether a program has more goroutines than before, or so much more heap that it is
// not just garbage.
func (t taken) exceeds(before taken) bool {
	return t.goroutines > before.goroutines || t.heap > before.heap+16<<20
}

func (m *mesh) footprint() (f footprint) {
	m.t.Helper()
	for _, s := range m.syncers {
		values, err := s.metrics()
		if err != nil {
			m.t.Fatal(err)
		}
		f.syncers.add(values)
	}
	f.machine.add(m.machineMetrics())
	return f
}

// leakFree waits until the programs take no more than before.
func (m *mesh) leakFree() {
	m.t.Helper()
	eventuallyAt(m.t, often, "nothing has leaked", func() error {
		if now := m.footprint(); now.syncers.exceeds(m.before.syncers) || now.machine.exceeds(m.before.machine) {
			return fmt.Errorf("goroutines and bytes of heap, syncers and CoreDNS: got %v, had %v", now, m.before)
		}
		return nil
	})
}

// recovered ends a test: asking has gone well until now, the machine agrees with the syncers, and nothing
// has leaked. Then it stops the machine and holds what it saved against what a new one is sent.
func (m *mesh) recovered(stop func()) {
	t := m.t
	t.Helper()
	m.agrees()
	stop()
	m.leakFree()
	held := m.saved(m.machine)
	m.machine.boot()
	m.machine.answers(moving, dns.TypeA, m.names[moving])
	fresh := m.saved(m.machine)
	if held.Digest() != fresh.Digest() || held.Resources() != fresh.Resources() {
		t.Errorf("Digest: got %016x of %d resources, a new machine has %016x of %d", held.Digest(), held.Resources(), fresh.Digest(), fresh.Resources())
	}
}

// saved stops the machine and takes its snapshot away from it.
func (m *mesh) saved(of *machine) *mirror.State {
	t := m.t
	t.Helper()
	of.coredns.Stop(t, syscall.SIGTERM)
	held := mirror.New(mirror.Options{Namespace: "prod"})
	if err := held.Load(of.snapshot); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(of.snapshot); err != nil {
		t.Fatal(err)
	}
	return held.State()
}

// lost waits until the machine knows that it follows nobody, which it must within a bound.
func (m *mesh) lost(bound time.Duration) {
	m.t.Helper()
	took := eventuallyAt(m.t, often, "the machine follows nobody", func() error { return m.connected(0) })
	m.t.Logf("noticed after %v", took)
	if took > bound {
		m.t.Errorf("Loss of the syncer: noticed after %v, want at most %v", took, bound)
	}
}

func (m *mesh) connected(want float64) error {
	for name, value := range m.machineMetrics() {
		if strings.HasPrefix(name, "coredns_meshvm_connected{") && value != want {
			return fmt.Errorf("connected: got %v, want %v", value, want)
		}
	}
	return nil
}

// alone waits until a syncer knows that nobody watches.
func (m *mesh) alone(s *meshSyncer) {
	m.t.Helper()
	took := eventuallyAt(m.t, often, "the syncer has no watchers", func() error {
		values, err := s.metrics()
		if watchers := values["meshvm_syncer_watchers"]; err == nil && watchers != 0 {
			err = fmt.Errorf("got %v", watchers)
		}
		return err
	})
	m.t.Logf("the syncer noticed %v later", took)
}

// maxStale is the max_stale of the machine.
const maxStale = 10 * time.Second

// stale waits until answers are said to be stale, or not to be, and the metric agrees.
func (m *mesh) stale(want bool) {
	m.t.Helper()
	query := new(dns.Msg).SetQuestion(steady, dns.TypeA)
	query.SetEdns0(1232, false)
	var codes []uint16
	if want {
		codes = []uint16{dns.ExtendedErrorCodeStaleAnswer}
	}
	eventuallyAt(m.t, often, fmt.Sprintf("answers are stale: %t", want), func() error {
		for name, age := range m.machineMetrics() {
			if strings.HasPrefix(name, "coredns_meshvm_staleness_seconds{") && (age > maxStale.Seconds()) != want {
				return fmt.Errorf("staleness: got %v s", age)
			}
		}
		reply, err := m.machine.send(query)
		if err == nil && (len(reply.Answer) != 1 || !slices.Equal(codesOf(reply), codes)) {
			err = fmt.Errorf("got %v", reply)
		}
		return err
	})
}
