package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/watch"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server/explain"

	"github.com/meshvm/meshvm/test/programs"
)

// ownNamespace is the one that a machine is in unless a test says otherwise.
const ownNamespace = "vm"

// agreesWith waits until the machine's mirror equals the registry of the syncer at these addresses, by
// generation, revision, resources and digest. Then every name of the registry must be answered at once as
// the syncer explains it, and the names of want, fully qualified, as want says: the address, or what ask
// makes of another answer.
//
// The digest is held against that of a mirror which the syncer has just filled and proved by a heartbeat:
// it knows nothing of the faults before. What the machine's mirror holds is read from its snapshot, which
// is written within seconds of a change, and whose digest is reckoned anew.
func (m *machine) agreesWith(address, http string, want map[string]string) {
	m.t.Helper()
	var truth *mirror.State
	var of float64
	eventually(m.t, "the mirror equals the registry", func() error {
		samples, err := samplesOf(http)
		if err != nil {
			return err
		}
		if revision := samples.the("meshvm_syncer_registry_revision"); truth == nil || revision != of {
			truth, of = registryAt(m.t, address), revision
		}
		return errors.Join(m.positionIs(truth), m.snapshotIs(truth))
	})
	names := 0
	for name, qtypes := range questionsOf(truth) {
		names++
		for _, qtype := range qtypes {
			wanted, revision := explained(m.t, http, name, qtype)
			if float64(revision) != of {
				m.t.Fatalf("The registry went from revision %.0f to %d while it was held against the mirror: the test must let it rest", of, revision)
			}
			m.answersNow(name, qtype, wanted)
		}
	}
	for name, wanted := range want {
		m.answersNow(name, dns.TypeA, wanted)
	}
	if names == 0 && len(want) == 0 {
		m.t.Error("The registry is empty, and nothing was asked: the test shows less than it says")
	}
}

// TestAgreementNotices holds a machine against a registry that differs by one address, and against one that
// has the same content and another history.
func TestAgreementNotices(t *testing.T) {
	t.Parallel()
	const name = "reviews.prod.svc.cluster.local."
	folder, other := t.TempDir(), t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	write(t, other, "reviews.yaml", reviewsAt("10.96.0.2"))
	_, address, http := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers(name, dns.TypeA, "10.96.0.1")
	m.agreesWith(address, http, map[string]string{name: "10.96.0.1"})

	for what, folder := range map[string]string{"another address": other, "another history": folder} {
		_, address, http := syncerOn(t, folder)
		eventually(t, "the syncer is ready", func() error { return status("http://"+http+"/readyz", 200) })
		truth := registryAt(t, address)
		if m.positionIs(truth) == nil || m.snapshotIs(truth) == nil {
			t.Errorf("%s: got agreement of the metrics (%v) or of the snapshot (%v), want neither", what, m.positionIs(truth), m.snapshotIs(truth))
		}
		got, _ := explained(t, http, name, dns.TypeA)
		if now, err := m.ask(name, dns.TypeA); err != nil || (now == got) != (what == "another history") {
			t.Errorf("%s: the machine answers %q, %v, and the syncer explains %q", what, now, err, got)
		}
	}
}

// registryAt is what a syncer shows the machines of ownNamespace: the content of a mirror that it fills
// from nothing, proved by a heartbeat.
func registryAt(t *testing.T, address string) *mirror.State {
	t.Helper()
	proved := proof{once: &sync.Once{}, seen: make(chan struct{})}
	m := mirror.New(mirror.Options{})
	client, err := watch.New(watch.Config{Addresses: []string{address}, Insecure: true, Namespace: ownNamespace, Node: "truth"}, m, nil, proved)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	var state *mirror.State
	select {
	case <-proved.seen:
		state = m.State()
		cancel()
		<-ended
	case err := <-ended:
		t.Fatalf("The registry at %s: not within %v: %v (%s)", address, patience, err, client.Status().LastError)
	}
	return state
}

// proof is closed at the first heartbeat that equals the mirror.
type proof struct {
	watch.Ignore
	once *sync.Once
	seen chan struct{}
}

func (p proof) Heartbeat(time.Time) { p.once.Do(func() { close(p.seen) }) }

// positionIs reports in what the metrics of CoreDNS differ from a state.
func (m *machine) positionIs(truth *mirror.State) error {
	samples, err := samplesOf(m.metrics)
	if err != nil {
		return err
	}
	at := truth.Position()
	revision := uint64(samples.the("coredns_meshvm_revision", fmt.Sprintf("generation=%q", at.GetGeneration())))
	resources := int(samples.the("coredns_meshvm_resources"))
	if revision != at.GetRevision() || resources != truth.Resources() {
		return fmt.Errorf("the metrics say %d resources at revision %d of generation %s, want %d at %d",
			resources, revision, at.GetGeneration(), truth.Resources(), at.GetRevision())
	}
	return nil
}

// snapshotIs reports in what the snapshot differs from a state.
func (m *machine) snapshotIs(truth *mirror.State) error {
	held, err := m.readSnapshot()
	if err != nil {
		return err
	}
	at, want := held.Position(), truth.Position()
	if at.GetGeneration() != want.GetGeneration() || at.GetRevision() != want.GetRevision() || at.GetView() != want.GetView() {
		return fmt.Errorf("the snapshot is of %v, want %v", at, want)
	}
	got, wanted := digestsOf(held), digestsOf(truth)
	if held.Digest() != truth.Digest() || !maps.Equal(got, wanted) {
		return fmt.Errorf("the snapshot has %d resources with digest %016x, want %d with %016x", len(got), held.Digest(), len(wanted), truth.Digest())
	}
	return nil
}

// readSnapshot is the state that is on the disk now. It reads a copy, as reading sets aside what is broken.
func (m *machine) readSnapshot() (*mirror.State, error) {
	content, err := os.ReadFile(m.snapshot)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(m.t.TempDir(), "copy.snapshot")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, err
	}
	held := mirror.New(mirror.Options{})
	if err := held.Load(file); err != nil {
		return nil, err
	}
	return held.State(), nil
}

// digestsOf is key and digest of all resources.
func digestsOf(state *mirror.State) map[string]registryv1.Digest {
	return maps.Collect(state.InBuckets(1, func(int) bool { return true }))
}

// questionsOf is every name of a registry with the types that it is asked for.
func questionsOf(state *mirror.State) map[string][]uint16 {
	questions := map[string][]uint16{}
	for host := range state.Hosts() {
		name := host.FQDN()
		if rest, wild := strings.CutPrefix(name, "*."); wild {
			name = "any." + rest
		}
		questions[name] = []uint16{dns.TypeA, dns.TypeAAAA}
		if host.ExternalName != "" { // an alias, which a machine follows and a syncer does not
			questions[name] = []uint16{dns.TypeCNAME}
		}
	}
	for address := range state.Addresses() {
		if name, err := dns.ReverseAddr(address.String()); err == nil {
			questions[name] = []uint16{dns.TypePTR}
		}
	}
	return questions
}

// explained is what a machine has to answer according to the syncer, in the form of ask, and the revision
// that it says so of.
func explained(t *testing.T, http, name string, qtype uint16) (answer string, revision uint64) {
	t.Helper()
	query := url.Values{"name": {name}, "type": {dns.TypeToString[qtype]}, "namespace": {ownNamespace}}
	body, code, err := get("http://" + http + "/debug/registry?" + query.Encode())
	if err != nil || code != 200 {
		t.Fatalf("Explanation of %s: status %d, %v: %s", name, code, err, body)
	}
	var e explain.Explanation
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("Explanation of %s: %v", name, err)
	}
	switch e.Outcome {
	case explain.NameError:
		return "NXDOMAIN", e.Revision
	case explain.NoData:
		return "", e.Revision
	case explain.PassedOn:
		return passedOn(name, qtype), e.Revision
	}
	var data []string
	for _, record := range e.Records {
		value := record.Value
		switch record.Type {
		case "PTR", "CNAME", "SRV":
			value += "."
		}
		data = append(data, value)
	}
	slices.Sort(data)
	return strings.Join(data, " "), e.Revision
}

// passedOn is what programs.Upstream answers.
func passedOn(name string, qtype uint16) string {
	for _, zone := range []string{"example.com.", "example.net.", "example.org."} {
		if dns.IsSubDomain(zone, name) {
			if qtype == dns.TypeA {
				return programs.Outside
			}
			return ""
		}
	}
	return "NXDOMAIN"
}

// level is what a process holds, as it says itself in its metrics.
type level struct{ goroutines, heap float64 }

// levelOf is the level of the process that serves metrics at an address.
func levelOf(t *testing.T, metrics string) (now level) {
	t.Helper()
	eventually(t, "metrics of "+metrics, func() error {
		samples, err := samplesOf(metrics)
		now = level{samples.the("go_goroutines"), samples.the("go_memstats_heap_alloc_bytes")}
		return err
	})
	return now
}

// Over the level of before, a process may hold what has to do with chance: a connection that idles, what
// the garbage collector has not got round to.
const (
	spareGoroutines = 4
	spareHeap       = 8 << 20
)

// backAt waits until a process is at the level that it was at before. The heap goes up and down with the
// garbage collector, so it is enough that it comes down once.
func backAt(t *testing.T, what, metrics string, before level) {
	t.Helper()
	lowest := levelOf(t, metrics)
	took := eventually(t, what+" is back at its level", func() error {
		now := levelOf(t, metrics)
		lowest = level{min(lowest.goroutines, now.goroutines), min(lowest.heap, now.heap)}
		if lowest.goroutines > before.goroutines+spareGoroutines || lowest.heap > before.heap+spareHeap {
			return fmt.Errorf("got %.0f goroutines and a heap of %.0f bytes at the least, before it were %.0f and %.0f",
				lowest.goroutines, lowest.heap, before.goroutines, before.heap)
		}
		return nil
	})
	t.Logf("%s is back at its level in %v: %.0f goroutines and %.1f MB of heap, before it were %.0f and %.1f",
		what, took, lowest.goroutines, lowest.heap/1e6, before.goroutines, before.heap/1e6)
}

// samples are what a metrics page says, by name with labels.
type samples map[string]float64

func samplesOf(address string) (samples, error) {
	body, code, err := get("http://" + address + "/metrics")
	if err != nil {
		return nil, err
	}
	if code != 200 {
		return nil, fmt.Errorf("metrics of %s: status %d: %s", address, code, body)
	}
	read := samples{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: line %q: %w", address, line, err)
		}
		read[line[:at]] = value
	}
	return read, nil
}

// the is the sum of the samples of a metric that have all of these labels, given as name="value". It is
// -1 where there are none.
func (s samples) the(metric string, labels ...string) float64 {
	sum, found := 0.0, false
	for name, value := range s {
		base, rest, _ := strings.Cut(name, "{")
		if base != metric || slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(rest, label) }) {
			continue
		}
		sum, found = sum+value, true
	}
	if !found {
		return -1
	}
	return sum
}
