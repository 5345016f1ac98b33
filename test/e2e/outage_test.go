package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// TestOutagesOfTheControlPlane takes the servers of a cluster away from a syncer and a machine that follow
// it, each in every way, and has things change as far as the cluster then can. Nothing may be lost, and
// whatever changed must come through.
func TestOutagesOfTheControlPlane(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.WithIstioCRDs())
	way := c.followThroughRoute()
	m := newMachine(t, []string{c.address})
	m.isReady()

	lasting := c.createService("lasting", corev1.ServiceSpec{}).Spec.ClusterIP
	c.createServiceEntry("moving", "moving.example.com")
	c.allocate("moving", "moving.example.com", "240.240.0.1")
	m.answers("moving.example.com.", dns.TypeA, "240.240.0.1")

	// turn has one Service come, one go and an address change, and returns what must be answered then.
	turns := 0
	turn := func() map[string]string {
		t.Helper()
		turns++
		before, now := numbered("turn", turns-1), numbered("turn", turns)
		want := map[string]string{
			c.host("lasting"):     lasting,
			c.host(now):           c.createService(now, corev1.ServiceSpec{}).Spec.ClusterIP,
			"moving.example.com.": numbered("240.240.1.", turns),
		}
		if turns > 1 {
			c.deleteService(before)
			want[c.host(before)] = "NXDOMAIN"
		}
		c.allocate("moving", "moving.example.com", want["moving.example.com."])
		return want
	}
	// arrived waits until the machine answers all of that and equals the registry.
	arrived := func(want map[string]string) {
		t.Helper()
		for name, answer := range want {
			m.answers(name, dns.TypeA, answer)
		}
		m.agreesWith(c.address, c.http, want)
	}
	arrived(turn())
	vm, syncer := levelOf(t, m.metrics), levelOf(t, c.http)

	unharmed := func() {
		t.Helper()
		m.answersNow(c.host("lasting"), dns.TypeA, lasting)
		m.answersNow("moving.example.com.", dns.TypeA, numbered("240.240.1.", turns))
		if err := status("http://"+c.http+"/readyz", 200); err != nil {
			t.Errorf("The syncer is not ready any more: %v", err)
		}
	}

	t.Run("the API server restarts", func(t *testing.T) {
		c.must(c.plane.StopAPIServer())
		c.syncer.WaitFor(t, "cannot reach the API server")
		unharmed()
		c.must(c.plane.StartAPIServer(t.Context()))
		arrived(turn())
	})
	t.Run("etcd restarts", func(t *testing.T) {
		c.must(c.plane.StopEtcd())
		unharmed()
		c.must(c.plane.StartEtcd(t.Context()))
		arrived(turn())
	})
	t.Run("the watch expires", func(t *testing.T) {
		services := c.clients.CoreV1().Services(c.namespace)
		list, err := services.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		before := list.ResourceVersion
		way.cut()
		c.syncer.WaitFor(t, "cannot reach the API server")
		turn()
		want := turn()
		unseen := numbered("turn", turns-1)
		want[c.host(numbered("turn", turns-2))] = "NXDOMAIN"
		m.answersNow(c.host(unseen), dns.TypeA, "NXDOMAIN")
		c.must(c.plane.CompactEtcd(t.Context()))
		c.must(c.plane.StopAPIServer())
		c.must(c.plane.StartAPIServer(t.Context()))
		c.isGone(t, before)
		way.mend(t)
		arrived(want)
	})
	backAt(t, "The syncer", c.http, syncer)

	t.Run("the syncer restarts while the API server is away", func(t *testing.T) {
		c.must(c.plane.StopAPIServer())
		c.syncer.Stop(t, syscall.SIGKILL)
		c.restartSyncer(way)
		eventually(t, "the syncer waits for its source", func() error { return status("http://"+c.http+"/readyz", http503) })
		m.answersNow(c.host("lasting"), dns.TypeA, lasting)
		c.must(c.plane.StartAPIServer(t.Context()))
		want := turn()
		m.answersNow(c.host("lasting"), dns.TypeA, lasting)
		arrived(want)
	})
	m.metric(`coredns_meshvm_syncs_total{mode="full"} 1`)
	backAt(t, "CoreDNS", m.metrics, vm)
}

// followThroughRoute puts another syncer in the place of the cluster's, with a route to the API server that
// can be cut.
func (c *cluster) followThroughRoute() *route {
	c.t.Helper()
	server, err := url.Parse(c.plane.RESTConfig().Host)
	if err != nil {
		c.t.Fatal(err)
	}
	way := newRoute(c.t, programs.FreeAddress(c.t), server.Host)
	c.syncer.Stop(c.t, syscall.SIGTERM)
	c.restartSyncer(way)
	return way
}

// restartSyncer starts a syncer on the addresses of the one before.
func (c *cluster) restartSyncer(way *route) {
	c.t.Helper()
	direct, err := c.plane.KubeconfigFor(controlplane.SyncerUser)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := os.ReadFile(direct)
	if err != nil {
		c.t.Fatal(err)
	}
	if !strings.Contains(string(text), way.server) {
		c.t.Fatalf("The kubeconfig does not name %s:\n%s", way.server, text)
	}
	folder := c.t.TempDir()
	write(c.t, folder, "kubeconfig", strings.ReplaceAll(string(text), way.server, way.address))
	c.syncer = programs.Start(c.t, programs.Syncer, "--kubeconfig", filepath.Join(folder, "kubeconfig"), "--insecure",
		"--listen", c.address, "--http-listen", c.http)
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) deleteService(name string) {
	c.t.Helper()
	c.must(c.clients.CoreV1().Services(c.namespace).Delete(c.t.Context(), name, metav1.DeleteOptions{}))
}

// isGone makes sure that no watch can begin at a resourceVersion any more.
func (c *cluster) isGone(t *testing.T, resourceVersion string) {
	t.Helper()
	watcher, err := c.clients.CoreV1().Services(c.namespace).Watch(t.Context(), metav1.ListOptions{ResourceVersion: resourceVersion})
	if err == nil {
		defer watcher.Stop()
		event := <-watcher.ResultChan()
		if event.Type == watch.Error {
			err = apierrors.FromObject(event.Object)
		}
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Fatalf("A watch from resourceVersion %s: got %v, want that it has expired: the test shows less than it says", resourceVersion, err)
	}
}

// numbered is a prefix with a number.
func numbered(prefix string, number int) string { return prefix + strconv.Itoa(number) }
