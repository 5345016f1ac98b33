package kubernetes

import (
	"errors"
	"fmt"
	"net/http"

	"k8s.io/client-go/dynamic"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	networkingv1client "k8s.io/client-go/kubernetes/typed/networking/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// Requests per second that are not writes of addresses: lists and watches, the Lease, Events. Each has a
// limit of its own, so that nothing keeps the Lease from being renewed.
const (
	readsPerSecond  = 20
	leasesPerSecond = 5
	eventsPerSecond = 5
)

// clients speak to one API server over the same connections.
type clients struct {
	host string
	http *http.Client
	// core and networking watch what is built in; definitions and entries what is Istio's.
	core        *corev1client.CoreV1Client
	networking  *networkingv1client.NetworkingV1Client
	definitions metadata.Interface
	entries     dynamic.Interface
	// ledger and statuses share a limit. Of a ServiceEntry that is written, only metadata come back.
	ledger   corev1client.ConfigMapInterface
	statuses metadata.Interface

	leases *coordinationv1client.CoordinationV1Client
	events *corev1client.CoreV1Client
}

func connect(config Config) (*clients, error) {
	base := rest.CopyConfig(config.REST)
	base.UserAgent = "meshvm-syncer-vip/" + config.Version
	base.Timeout = 0 // It would end every watch. Requests are bounded one by one.
	server, _, err := rest.DefaultServerUrlFor(base)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	c := &clients{host: server.Host}
	if c.http, err = rest.HTTPClientFor(base); err != nil {
		return nil, fmt.Errorf("prepare to speak to the API server %s: %w", c.host, err)
	}
	limited := func(perSecond float32) *rest.Config {
		with := rest.CopyConfig(base)
		with.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(perSecond, max(1, int(2*perSecond)))
		return with
	}
	reads, writes := limited(readsPerSecond), limited(config.QPS)
	var problems [8]error
	c.core, problems[0] = corev1client.NewForConfigAndClient(compact(reads), c.http)
	c.networking, problems[1] = networkingv1client.NewForConfigAndClient(compact(reads), c.http)
	c.definitions, problems[2] = metadata.NewForConfigAndClient(metadata.ConfigFor(reads), c.http)
	c.entries, problems[3] = dynamic.NewForConfigAndClient(dynamic.ConfigFor(reads), c.http)
	c.statuses, problems[4] = metadata.NewForConfigAndClient(metadata.ConfigFor(writes), c.http)
	c.leases, problems[5] = coordinationv1client.NewForConfigAndClient(compact(limited(leasesPerSecond)), c.http)
	c.events, problems[6] = corev1client.NewForConfigAndClient(compact(limited(eventsPerSecond)), c.http)
	var maps *corev1client.CoreV1Client
	maps, problems[7] = corev1client.NewForConfigAndClient(compact(writes), c.http)
	if err := errors.Join(problems[:]...); err != nil {
		return nil, fmt.Errorf("prepare clients of the API server %s: %w", c.host, err)
	}
	c.ledger = maps.ConfigMaps(config.Namespace)
	return c, nil
}

// compact reads and writes protobuf, which custom resources do not have.
func compact(config *rest.Config) *rest.Config {
	with := rest.CopyConfig(config)
	with.ContentType = "application/vnd.kubernetes.protobuf"
	with.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return with
}
