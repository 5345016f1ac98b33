package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// TestDamagedSnapshots starts machines from snapshots that a disk or a crash has damaged, each in its own
// way, while no syncer can be reached, and then lets them have one. That every offset and every bit is
// noticed is for the mirror's own tests, this is for what CoreDNS makes of it.
func TestDamagedSnapshots(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	_, address, http := syncerOn(t, folder)
	whole := newMachine(t, []string{address})
	whole.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.10")
	whole.agreesWith(address, http, nil)
	whole.coredns.Stop(t, syscall.SIGTERM)
	good, err := os.ReadFile(whole.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	write(t, folder, "later.yaml", service("later.prod", "10.96.3.3"))

	// The bytes and bits are others with another seed; a fault can be had again with the one it names.
	const seed = 11
	random := rand.New(rand.NewPCG(seed, 0))
	damages := map[string][]byte{
		"nothing is left":            {},
		"all but the last byte":      good[:len(good)-1],
		"torn, and zeros to the end": append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)-len(good)/2)...),
		"something else":             []byte("reviews.prod.svc.cluster.local. 5 IN A 192.0.2.66\n"),
	}
	for range 4 {
		at := 1 + random.IntN(len(good)-2)
		damages[fmt.Sprintf("torn at byte %d", at)] = good[:at]
		bit := random.IntN(8 * len(good))
		flipped := bytes.Clone(good)
		flipped[bit/8] ^= 1 << (bit % 8)
		damages[fmt.Sprintf("bit %d flipped", bit)] = flipped
	}

	way := newRoute(t, programs.FreeAddress(t), address)
	way.cut()
	machines := map[string]*machine{}
	for damage, content := range damages {
		m := whole.twin(content, way.address)
		machines[damage] = m
		m.coredns.WaitFor(t, "snapshot not loaded")
		m.coredns.WaitFor(t, "set aside as "+m.snapshot+".corrupt")
		m.metric(`coredns_meshvm_snapshot_errors_total{operation="load"} 1`)
		// It has the last word in the cluster's zone, and does not make one up.
		for _, name := range []string{"reviews.prod.svc.cluster.local.", "later.prod.svc.cluster.local.", "nope.prod.svc.cluster.local.", "cluster.local."} {
			m.answersNow(name, dns.TypeA, "SERVFAIL")
		}
		m.answersNow("www.example.org.", dns.TypeA, programs.Outside)
		if err := status("http://"+m.ready+"/ready", http503); err != nil {
			t.Errorf("%s: ready with nothing loaded: %v", damage, err)
		}
		if aside, err := os.ReadFile(m.snapshot + ".corrupt"); err != nil || !bytes.Equal(aside, content) {
			t.Errorf("%s: what was set aside: got %d bytes, %v, want the %d damaged ones", damage, len(aside), err, len(content))
		}
	}
	way.mend(t)
	for damage, m := range machines {
		m.answers("later.prod.svc.cluster.local.", dns.TypeA, "10.96.3.3")
		m.isReady()
		m.agreesWith(address, http, nil)
		if t.Failed() {
			t.Fatalf("It was: %s, of seed %d", damage, seed)
		}
	}
}

// twin is another machine with the same upstream, which starts from a snapshot's content and follows other
// syncers.
func (m *machine) twin(content []byte, syncers ...string) *machine {
	m.t.Helper()
	folder := m.t.TempDir()
	n := &machine{
		t: m.t, address: programs.FreeAddress(m.t), ready: programs.FreeAddress(m.t), metrics: programs.FreeAddress(m.t),
		snapshot: filepath.Join(folder, "registry.snapshot"), corefile: filepath.Join(folder, "Corefile"),
	}
	write(m.t, folder, "registry.snapshot", string(content))
	n.configure(syncers, "insecure", "namespace vm")
	n.boot()
	return n
}

// TestFullDisk has the disk of a machine fill up, so that a snapshot can be begun and not ended. The one
// before must survive and be good for a start, and saving must go on when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	_, address, http := syncerOn(t, folder)
	way := newRoute(t, programs.FreeAddress(t), address)
	m := newMachine(t, []string{way.address})
	m.isReady()
	m.coredns.Stop(t, syscall.SIGTERM)
	disk := filepath.Dir(m.snapshot)
	if err := syscall.Mount("meshvm-test", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("mount a small disk, for which one has to be root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmount %s: %v", disk, err)
		}
	})
	m.boot()
	m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.10")
	m.agreesWith(address, http, nil)
	before := levelOf(t, m.metrics)
	old, err := os.ReadFile(m.snapshot)
	if err != nil {
		t.Fatal(err)
	}

	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	var many []string
	for i := range 100 {
		many = append(many, service(fmt.Sprintf("many-%d.prod", i), fmt.Sprintf("10.96.5.%d", 1+i)))
	}
	write(t, folder, "many.yaml", documents(many...))
	m.answers("many-99.prod.svc.cluster.local.", dns.TypeA, "10.96.5.100")
	m.coredns.WaitFor(t, "snapshot not saved, the one before stays")
	m.coredns.WaitFor(t, "no space left on device")
	m.metric(`coredns_meshvm_snapshot_errors_total{operation="save"} 1`)
	kept := func() {
		t.Helper()
		if now, err := os.ReadFile(m.snapshot); err != nil || !bytes.Equal(now, old) {
			t.Errorf("The snapshot on the full disk: got %d bytes, %v, want the %d as before", len(now), err, len(old))
		}
		if _, err := os.Stat(m.snapshot + ".tmp"); err == nil {
			t.Error("The unfinished snapshot has been left on the full disk")
		}
	}
	kept()

	// Not even the end of the process takes the old one away, and the next one begins with it.
	way.cut()
	m.coredns.Stop(t, syscall.SIGTERM)
	kept()
	m.boot()
	m.coredns.WaitFor(t, "loaded snapshot")
	m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.10")
	m.answersNow("many-99.prod.svc.cluster.local.", dns.TypeA, "NXDOMAIN")
	way.mend(t)
	m.answers("many-99.prod.svc.cluster.local.", dns.TypeA, "10.96.5.100")
	m.coredns.WaitFor(t, "no space left on device")
	kept()

	// There is room again. That a running CoreDNS tries again too is for the plugin's own tests: it takes half
	// a minute.
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	m.coredns.Stop(t, syscall.SIGTERM)
	if err := m.snapshotIs(registryAt(t, address)); err != nil {
		t.Errorf("After the end with room on the disk: %v", err)
	}
	m.boot()
	write(t, folder, "last.yaml", service("last.prod", "10.96.6.1"))
	m.answers("last.prod.svc.cluster.local.", dns.TypeA, "10.96.6.1")
	m.agreesWith(address, http, map[string]string{"many-0.prod.svc.cluster.local.": "10.96.5.1"})
	backAt(t, "CoreDNS", m.metrics, before)
}

// fill writes a file until there is no room but for a page.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := bytes.Repeat([]byte{1}, os.Getpagesize())
	size := int64(0)
	for {
		n, err := f.Write(page)
		size += int64(n)
		if err == nil {
			continue
		}
		if !strings.Contains(err.Error(), "no space left") {
			t.Fatal(err)
		}
		break
	}
	if err := f.Truncate(size - int64(len(page))); err != nil {
		t.Fatal(err)
	}
}
