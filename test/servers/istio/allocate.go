package main

import (
	"fmt"

	"istio.io/istio/pilot/pkg/controllers/ipallocate"
	"istio.io/istio/pkg/kube"
)

// allocate runs the controller that istiod runs in the one replica that leads, until it is told to stop.
func allocate(kubeconfig string, stop <-chan struct{}) error {
	config, err := kube.BuildClientConfig(kubeconfig, "")
	if err != nil {
		return fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	client, err := kube.NewClient(kube.NewClientConfigForRestConfig(config), "Kubernetes")
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	kube.EnableCrdWatcher(client)
	allocator := ipallocate.NewIPAllocator(stop, client)
	client.RunAndWait(stop)
	allocator.Run(stop)
	client.Shutdown()
	return nil
}
