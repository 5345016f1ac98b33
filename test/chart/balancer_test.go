//go:build chart

package chart

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// balancer stands for the load balancer of the Service, and for the endpoints behind it: it has an address of its own, the Service's port,
// and connects whoever comes to one of the pods that are ready.
type balancer struct {
	t        *testing.T
	ip       string
	listener net.Listener

	mu    sync.Mutex
	ready []*pod
	conns sync.WaitGroup
}

// balance makes a balancer, whose address is the Service's from now on.
func (c *cluster) balance(t *testing.T, pods ...*pod) *balancer {
	t.Helper()
	service, err := c.clients.CoreV1().Services(namespace).Get(t.Context(), release, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := listen(t, int(service.Spec.Ports[0].Port))
	b.set(pods...)
	if err := b.publish(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return b
}

// listen makes a balancer at a port of an address that nobody else has.
func listen(t *testing.T, port int) *balancer {
	t.Helper()
	// Any address of 127/8 is this machine's, so the port can be the Service's own.
	ip := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254)))
	b := &balancer{t: t, ip: ip.String()}
	var err error
	if b.listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", (&net.TCPAddr{IP: ip, Port: port}).String()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.conns.Go(func() { b.serve(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := b.listener.Close(); err != nil {
			t.Error(err)
		}
		b.conns.Wait()
	})
	return b
}

// publish writes the address into the Service's status.
func (b *balancer) publish(ctx context.Context, c *cluster) error {
	patch := `{"status":{"loadBalancer":{"ingress":[{"ip":"` + b.ip + `"}]}}}`
	_, err := c.clients.CoreV1().Services(namespace).Patch(ctx, release, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	return err
}

// set says which pods are ready. Connections to others stay, as with a Service.
func (b *balancer) set(pods ...*pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = slices.Clone(pods)
}

func (b *balancer) serve(ctx context.Context) {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return // It is closed.
		}
		b.conns.Go(func() { b.connect(ctx, client) })
	}
}

func (b *balancer) connect(ctx context.Context, client net.Conn) {
	defer client.Close()
	b.mu.Lock()
	var address string
	if len(b.ready) > 0 {
		address = b.ready[rand.IntN(len(b.ready))].addresses["grpc-watch"]
	}
	b.mu.Unlock()
	syncer, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return // The client finds out, and comes again.
	}
	defer syncer.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); syncer.Close() })
	defer stop()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, syncer}, {syncer, client}} {
		both.Go(func() {
			defer way[0].Close()
			defer way[1].Close()
			_, _ = io.Copy(way[0], way[1]) // Either side may go.
		})
	}
	both.Wait()
}
