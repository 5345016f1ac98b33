package kubernetes

import (
	"errors"
	"fmt"
	"net/http"

	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryv1client "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

// Requests that are sent to the API server at most, beside probes: watches need next to none, and
// this is enough to start and to come back after an outage.
const (
	requestsPerSecond = 20
	requestsBurst     = 50
)

// RESTConfig says how to reach an API server: that of the current context of a kubeconfig file, or
// without a file that of the cluster that the process runs in.
func RESTConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		switch {
		case errors.Is(err, rest.ErrNotInCluster):
			return nil, errors.New("not running in a Kubernetes cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): want a kubeconfig file")
		case err != nil:
			return nil, fmt.Errorf("read the service account of this pod: %w", err)
		}
		return config, nil
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	return config, nil
}

// clients speak to one API server over the same connections.
type clients struct {
	host      string
	http      *http.Client
	readyURL  string
	core      *corev1client.CoreV1Client
	discovery *discoveryv1client.DiscoveryV1Client
	metadata  metadata.Interface
	dynamic   dynamic.Interface
}

func connect(base *rest.Config, version string) (*clients, error) {
	config := rest.CopyConfig(base)
	config.UserAgent = "meshvm-syncer/" + version
	config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(requestsPerSecond, requestsBurst)
	config.Timeout = 0 // It would end every watch. Requests are bounded one by one.
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	c := &clients{host: server.Host, readyURL: server.JoinPath("readyz").String()}
	if c.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("prepare to speak to the API server %s: %w", c.host, err)
	}
	// Custom resources have no protobuf; all else is read several times faster with it.
	compact := rest.CopyConfig(config)
	compact.ContentType = "application/vnd.kubernetes.protobuf"
	compact.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	var problems [4]error
	c.core, problems[0] = corev1client.NewForConfigAndClient(compact, c.http)
	c.discovery, problems[1] = discoveryv1client.NewForConfigAndClient(compact, c.http)
	c.metadata, problems[2] = metadata.NewForConfigAndClient(metadata.ConfigFor(config), c.http)
	c.dynamic, problems[3] = dynamic.NewForConfigAndClient(dynamic.ConfigFor(config), c.http)
	if err := errors.Join(problems[:]...); err != nil {
		return nil, fmt.Errorf("prepare clients of the API server %s: %w", c.host, err)
	}
	return c, nil
}
