package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// BenchmarkFanOut is one change's way to every stream, over loopback, acknowledged by all.
func BenchmarkFanOut(b *testing.B) {
	for _, streams := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			r := registry.New(registry.Options{})
			source := r.AddSource("bench")
			source.Synced()
			s, err := New(r, Options{Log: slog.New(slog.DiscardHandler), CoalesceWindow: time.Microsecond, HeartbeatInterval: time.Hour, ShutdownTimeout: time.Second})
			if err != nil {
				b.Fatal(err)
			}
			address, stop := serveForBenchmark(b, s)
			defer stop()

			var arrived sync.WaitGroup
			var connection *grpc.ClientConn
			for i := range streams {
				if i%maxStreamsPerVM == 0 {
					if connection, err = grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
						b.Fatal(err)
					}
					defer connection.Close()
				}
				follow(b, registryv1.NewRegistryClient(connection), &arrived)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				arrived.Add(streams)
				if err := source.Apply(time.Now(), service("prod", "a", fmt.Sprintf("10.0.%d.%d", i/256%256, i%256), registry.Public())); err != nil {
					b.Fatal(err)
				}
				arrived.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams), "ns/stream")
		})
	}
}

// serveForBenchmark runs a server on loopback.
func serveForBenchmark(b *testing.B, s *Server) (address string, stop func()) {
	b.Helper()
	var listeners [2]net.Listener
	for i := range listeners {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		listeners[i] = listener
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listeners[0], listeners[1]) }()
	return listeners[0].Addr().String(), func() {
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	}
}

// follow opens a stream and reads it until it ends; every delta after the initial state has arrived.
func follow(b *testing.B, client registryv1.RegistryClient, arrived *sync.WaitGroup) {
	b.Helper()
	stream, err := client.Watch(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Send(helloOf(&registryv1.Hello{})); err != nil {
		b.Fatal(err)
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			b.Fatal(err)
		}
		if response.GetHeartbeat() != nil {
			break
		}
	}
	go func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				return
			}
			if response.GetDelta() != nil {
				arrived.Done()
			}
		}
	}()
}

// BenchmarkEncodeContent is the encoding of a whole view.
func BenchmarkEncodeContent(b *testing.B) {
	for _, size := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", size), func(b *testing.B) {
			r := registry.New(registry.Options{})
			var updates []registry.Update
			for i := range size {
				updates = append(updates, service("prod", fmt.Sprintf("service-%d", i), "10.0.0.1", registry.Public()))
			}
			if err := r.AddSource("bench").Apply(time.Now(), updates...); err != nil {
				b.Fatal(err)
			}
			content := r.Content("prod")
			b.ReportAllocs()
			for b.Loop() {
				d := encodeContent(content, 256<<10)
				b.SetBytes(int64(d.bytes))
			}
		})
	}
}
