package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/syncer/source/kubernetes"
	"github.com/meshvm/meshvm/syncer/source/manifest"
	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/syncer/vip/statefile"
)

// follower is a source of the registry.
type follower interface {
	// Run follows the source until the context ends.
	Run(ctx context.Context) error
	// VirtualIPs is what the statuses of the ServiceEntries that are followed say.
	VirtualIPs() *source.VirtualIPs
	// Table is all virtual IPs that are known to it, for people.
	Table() vip.Table
}

// serve puts the parts together and runs them until the context ends or one of them fails.
func serve(ctx context.Context, s settings, log *slog.Logger) error {
	log.Info("starting", "version", version)
	metrics := prometheus.NewRegistry()
	s.guard.Log = log
	names := registry.New(registry.Options{Guard: s.guard, Scopes: s.translation.Sidecars != nil})
	ledger, err := openLedger(s)
	if err != nil {
		return err
	}
	if ledger != nil {
		defer func() {
			if err := ledger.Close(); err != nil {
				log.Error("cannot close the ledger of virtual IPs", "error", err)
			}
		}()
	}
	var front *server.Server
	follow, err := openSource(s, names, ledger, log, metrics, func(mesh source.Mesh) {
		front.SetTrustDomains(mesh.TrustDomains()...)
		if sidecars := s.translation.Sidecars; sidecars != nil {
			sidecars.SetRootNamespace(mesh.RootNamespace)
		}
	})
	if err != nil {
		return err
	}
	allocator, err := openAllocator(s, log, metrics)
	if err != nil {
		return err
	}
	if err := countPending(metrics, follow.VirtualIPs()); err != nil {
		return err
	}
	gate, err := openGate(ctx, s, log, metrics)
	if err != nil {
		return err
	}
	options := s.bounds
	gate.apply(&options, s.identity.recheck)
	options.Replicas = s.replicas
	if options.HTTPAuthorizer, err = openHTTP(s, log); err != nil {
		return err
	}
	options.ClusterDomain, options.Version, options.TLS = s.translation.ClusterDomain, version, s.tls
	options.Metrics, options.Log = metrics, log
	options.VirtualIPs = tableOf(follow, allocator)
	if sidecars := s.translation.Sidecars; sidecars != nil {
		options.Scopes = sidecars
	}
	front, err = server.New(names, options)
	if err != nil {
		return err
	}
	var listener net.ListenConfig
	vms, err := listener.Listen(ctx, "tcp", s.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	people, err := listener.Listen(ctx, "tcp", s.httpListen)
	if err != nil {
		return fmt.Errorf("--http-listen: %w", errors.Join(err, vms.Close()))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	defer group.Wait()
	// The source outlives the server, so that nobody is told that it has gone.
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	group.Go(func() { names.RunGuard(following) })
	if gate.verifier != nil {
		group.Go(func() { gate.verifier.Run(following) })
	}
	group.Go(func() {
		if err := follow.Run(following); err != nil && following.Err() == nil {
			cancel(fmt.Errorf("follow the source: %w", err))
		}
	})
	if allocator != nil {
		group.Go(func() {
			if err := allocator.Run(following); err != nil {
				cancel(fmt.Errorf("give virtual IPs: %w", err))
			}
		})
	}
	return front.Serve(ctx, vms, people)
}

// openSource is the source that the flags name. While it runs, it tells onMesh of the mesh configuration.
func openSource(s settings, names *registry.Registry, ledger *statefile.File, log *slog.Logger, metrics prometheus.Registerer, onMesh func(source.Mesh)) (follower, error) {
	mesh := source.MeshOptions{ConfigMap: s.mesh, Changed: onMesh}
	if s.manifests != "" {
		folder, err := manifest.New(manifest.Config{
			Dir:         s.manifests,
			Registry:    names.AddSource("manifests"),
			Translation: s.translation,
			Mesh:        mesh,
			Log:         log,
			Metrics:     metrics,
			Allocation:  allocationOf(s.vip.options, ledger),
		})
		if err != nil {
			return nil, fmt.Errorf("--manifests: %w", err)
		}
		return folder, nil
	}
	reach, err := kubernetes.RESTConfig(s.kubeconfig)
	switch {
	case err != nil && s.kubeconfig == "":
		return nil, fmt.Errorf("neither --kubeconfig nor --manifests is given: %w", err)
	case err != nil:
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	cluster, err := kubernetes.New(kubernetes.Config{
		REST:        reach,
		Registry:    names.AddSource("kubernetes"),
		Translation: s.translation,
		Mesh:        mesh,
		Version:     version,
		Log:         log,
		Metrics:     metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("follow the cluster: %w", err)
	}
	return cluster, nil
}
