package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	authorizationv1client "k8s.io/client-go/kubernetes/typed/authorization/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	rbacv1client "k8s.io/client-go/kubernetes/typed/rbac/v1"
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc" // kubeconfigs may say so
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Cluster is an API server, with the rights of an operator. Its methods are safe for concurrent use, and bounded in
// time by their contexts.
type Cluster struct {
	http          *http.Client
	core          *corev1client.CoreV1Client
	rbac          *rbacv1client.RbacV1Client
	authorization *authorizationv1client.AuthorizationV1Client
}

// Connect finds the API server as kubectl does: in the kubeconfig file that is named, or else in those of KUBECONFIG or
// in ~/.kube/config, and in a pod without any of them that of its own cluster. An empty kubeContext is the file's
// current one. Nothing is sent yet. The caller closes it.
func Connect(kubeconfig, kubeContext, userAgent string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: kubeContext})
	config, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err) && kubeContext == "":
		return nil, errors.New("no cluster to speak to: want a kubeconfig file, by --kubeconfig, KUBECONFIG or ~/.kube/config")
	case err != nil:
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.UserAgent = userAgent
	config.WarningHandlerWithContext = rest.NoWarnings{} // What they say is said here, where it matters.
	c := &Cluster{}
	if c.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("prepare to speak to the API server %s: %w", config.Host, err)
	}
	var problems [3]error
	c.core, problems[0] = corev1client.NewForConfigAndClient(config, c.http)
	c.rbac, problems[1] = rbacv1client.NewForConfigAndClient(config, c.http)
	c.authorization, problems[2] = authorizationv1client.NewForConfigAndClient(config, c.http)
	if err := errors.Join(problems[:]...); err != nil {
		c.Close()
		return nil, fmt.Errorf("prepare to speak to the API server %s: %w", config.Host, err)
	}
	return c, nil
}

// Close ends the connections. No method may run or be called any more.
func (c *Cluster) Close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// IsUnreachable reports whether an error of a Cluster is that the API server did not answer, as opposed to an answer
// that is no.
func IsUnreachable(err error) bool {
	var transport *url.Error
	return errors.As(err, &transport) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
