//go:build chart

package chart

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/watch"
)

const (
	fleetSize   = 100
	changesASec = 10
	services    = 1000
)

// follower is a VM of a fleet: what follows a syncer in CoreDNS, without the DNS server.
type follower struct {
	watch.Ignore
	mirror *mirror.Mirror

	mu    sync.Mutex
	equal time.Time // when a heartbeat said last that the mirror equals the syncer's view

	disconnected, mismatches, full, bytes, digests atomic.Int64
}

func (f *follower) Disconnected(string, watch.Cause) { f.disconnected.Add(1) }
func (f *follower) Mismatch()                        { f.mismatches.Add(1) }
func (f *follower) FullSync()                        { f.full.Add(1) }
func (f *follower) Compared(bytes int)               { f.digests.Add(int64(bytes)) }
func (f *follower) Applied(delta watch.Applied)      { f.bytes.Add(int64(delta.Bytes)) }
func (f *follower) Heartbeat(time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.equal = time.Now()
}

// equalSince is whether a digest has been equal since a time.
func (f *follower) equalSince(at time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.equal.After(at)
}

// muster starts a fleet that follows the syncers behind an address, with what a bundle of meshvmctl bootstrap holds.
func muster(t *testing.T, bundle, address string) []*follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	fleet := make([]*follower, fleetSize)
	for i := range fleet {
		f := &follower{mirror: mirror.New(mirror.Options{})}
		client, err := watch.New(watch.Config{
			Addresses: []string{address}, ServerName: "meshvm-syncer.meshvm.svc", Node: fmt.Sprintf("vm-%d", i),
			TLS: watch.TLSFiles{CAFile: filepath.Join(bundle, "ca.pem")}, TokenFile: filepath.Join(bundle, "token"),
		}, f.mirror, nil, f)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { _ = client.Run(ctx) }) // It ends as it is told to.
		fleet[i] = f
	}
	return fleet
}

// asker asks a VM without a pause, and counts what is not answered.
type asker struct {
	asked, failed atomic.Int64
	slowest       time.Duration
	last          error
}

func (a *asker) run(ctx context.Context, m *vm, name, want string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		got, err := m.ask(name, dns.TypeA)
		a.slowest = max(a.slowest, time.Since(began))
		a.asked.Add(1)
		if err != nil || got != want {
			a.failed.Add(1)
			a.last = fmt.Errorf("got %q and %w, want %q", got, err, want)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// change moves Services between two states, ten of them a second, and returns how often it did.
func (c *cluster) change(ctx context.Context, t *testing.T) int {
	tick := time.NewTicker(time.Second / changesASec)
	defer tick.Stop()
	changed := 0
	for {
		select {
		case <-ctx.Done():
			return changed
		case <-tick.C:
		}
		patch := fmt.Sprintf(`{"spec":{"ports":[{"port":80,"name":"p%d"}]}}`, changed)
		name := fmt.Sprintf("fleet-%d", changed%services)
		if _, err := c.clients.CoreV1().Services(objectsNamespace).Patch(context.Background(), name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Error(err)
			return changed
		}
		changed++
	}
}

// counter is the sum of a metric of a pod over its labels.
func (p *pod) counter(t *testing.T, name string) int64 {
	t.Helper()
	metrics, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, sample := range regexp.MustCompile(`(?m)^`+name+`(?:\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(metrics, -1) {
		value, err := strconv.ParseFloat(sample[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += value
	}
	return int64(sum)
}

// TestRollingRestart replaces both syncers as the Deployment's strategy says, a new one first, while VMs follow them and names
// change. Every VM is in step by digest in the end, and no query fails.
func TestRollingRestart(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	for i := range services {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("fleet-%d", i)}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		if _, err := c.clients.CoreV1().Services(objectsNamespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.install("helm", "{service: {type: LoadBalancer}, limits: {maxConnectionAge: 10m}}")
	deployment, err := c.clients.AppsV1().Deployments(namespace).Get(t.Context(), release, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if rolling := deployment.Spec.Strategy.RollingUpdate; *deployment.Spec.Replicas != 2 || rolling.MaxUnavailable.IntValue() != 0 || rolling.MaxSurge.IntValue() != 1 {
		t.Fatalf("got %d replicas and %+v, want 2, replaced one by one, a new one first", *deployment.Spec.Replicas, rolling)
	}
	run := func() *pod {
		p := c.schedule(t)
		p.start(t)
		p.ready(t)
		return p
	}
	old := []*pod{run(), run()}
	balancer := c.balance(t, old...)
	bundle := c.bootstrap(t, objectsNamespace)
	m := boot(t, bundle)
	m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
	fleet := muster(t, bundle, balancer.listener.Addr().String())
	began := time.Now()
	inStep := func(since time.Time) func() error {
		return func() error {
			for i, f := range fleet {
				if !f.equalSince(since) {
					return fmt.Errorf("VM %d is not in step", i)
				}
			}
			return nil
		}
	}
	eventually(t, "all VMs are in step", inStep(began))
	for _, f := range fleet {
		f.bytes.Store(0)
		f.full.Store(0)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var others sync.WaitGroup
	var asked asker
	changes := 0
	others.Go(func() { asked.run(ctx, m, "reviews.prod.svc.cluster.local", "10.96.77.1") })
	others.Go(func() { changes = c.change(ctx, t) })

	began = time.Now()
	fresh := []*pod{}
	for i, leaving := range old {
		fresh = append(fresh, run())
		balancer.set(append(append([]*pod{}, old[i:]...), fresh...)...)
		// The pod is terminated: it is taken out of the endpoints, and told to end.
		balancer.set(append(append([]*pod{}, old[i+1:]...), fresh...)...)
		leaving.stop(t)
		left := time.Now()
		eventually(t, "all VMs are in step again", inStep(left))
	}
	took := time.Since(began)
	cancel()
	others.Wait()

	// What was changed last is everywhere, and the same everywhere.
	stopped := time.Now()
	eventually(t, "all VMs have all changes", inStep(stopped))
	host, address := c.newService(t)
	m.answers(host, dns.TypeA, address)
	want := fleet[0].mirror.State().Digest()
	eventually(t, "all mirrors are equal", func() error {
		want = fleet[0].mirror.State().Digest()
		for i, f := range fleet {
			if got := f.mirror.State().Digest(); got != want {
				return fmt.Errorf("VM %d has digest %x, VM 0 %x", i, got, want)
			}
		}
		return nil
	})

	var disconnected, mismatches, full, bytes, digests int64
	for _, f := range fleet {
		disconnected += f.disconnected.Load()
		mismatches += f.mismatches.Load()
		full += f.full.Load()
		bytes += f.bytes.Load()
		digests += f.digests.Load()
	}
	if asked.failed.Load() > 0 {
		t.Errorf("%d of %d queries failed, the last one: %v", asked.failed.Load(), asked.asked.Load(), asked.last)
	}
	if asked.asked.Load() < 100 || changes < changesASec {
		t.Errorf("Got %d queries and %d changes meanwhile: too few to show anything", asked.asked.Load(), changes)
	}
	if disconnected < fleetSize {
		t.Errorf("Got %d streams ended, want each VM's at least once", disconnected)
	}
	if mismatches > 0 || full > 0 {
		t.Errorf("Got %d digests that differed and %d full syncs, want none", mismatches, full)
	}
	var compared, frames int64
	for _, p := range fresh {
		compared += p.counter(t, "meshvm_syncer_compare_bytes_total")
		frames += p.counter(t, "meshvm_syncer_frame_bytes_sent_total")
	}
	t.Logf("%d VMs, %d services, %d changes, replaced in %v: %d streams ended; VMs applied %d bytes and exchanged %d bytes of digests, %d a VM and failover; new syncers sent %d bytes of frames, compared %d",
		fleetSize, services, changes, took.Round(time.Millisecond), disconnected, bytes, digests, digests/max(1, disconnected), frames, compared)
	t.Logf("%d queries, %d failed, slowest %v", asked.asked.Load(), asked.failed.Load(), asked.slowest.Round(time.Microsecond))
	for _, p := range fresh {
		p.process.Stop(t, syscall.SIGTERM)
	}
}
