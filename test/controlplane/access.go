package controlplane

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// RESTConfig returns a client configuration for the administrator, without
// client-side rate limits. The caller owns it.
func (c *ControlPlane) RESTConfig() *rest.Config {
	return c.restConfig(c.credentials.tokens[adminUser])
}

// RESTConfigFor returns a client configuration for SyncerUser or a user of
// Config.Users.
func (c *ControlPlane) RESTConfigFor(user string) (*rest.Config, error) {
	token, err := c.tokenOf(user)
	if err != nil {
		return nil, err
	}
	return c.restConfig(token), nil
}

func (c *ControlPlane) restConfig(token string) *rest.Config {
	return &rest.Config{
		Host:            c.secure.url("https"),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.credentials.authority},
		QPS:             -1,
	}
}

func (c *ControlPlane) tokenOf(user string) (string, error) {
	token, ok := c.credentials.tokens[user]
	if !ok {
		return "", fmt.Errorf("the control plane knows no user %q: name it in Config.Users", user)
	}
	return token, nil
}

// Kubeconfig returns the path of the administrator's kubeconfig file. The file
// goes with the control plane.
func (c *ControlPlane) Kubeconfig() string {
	return c.kubeconfigFile(adminUser)
}

// KubeconfigFor returns the path of the kubeconfig file of SyncerUser or a user
// of Config.Users. That user may do what the test's own roles and bindings grant
// to its name, and what every authenticated user may.
func (c *ControlPlane) KubeconfigFor(user string) (string, error) {
	if _, err := c.tokenOf(user); err != nil {
		return "", err
	}
	return c.kubeconfigFile(user), nil
}

// KubeconfigForServiceAccount writes a kubeconfig file for a service account,
// which is created where it does not exist, and returns the file's path. RBAC
// knows the account as system:serviceaccount:NAMESPACE:NAME.
func (c *ControlPlane) KubeconfigForServiceAccount(ctx context.Context, namespace, name string) (string, error) {
	token, err := c.ServiceAccountToken(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	user := "system:serviceaccount:" + namespace + ":" + name
	file := c.kubeconfigFile(user)
	return file, c.writeKubeconfig(file, user, token)
}

// ServiceAccountToken has the API server issue a token for a service account,
// which is created where it does not exist. The token is valid for a day and for
// the audiences given, or without any for the API server itself. Pods get theirs
// the same way, through a projected volume.
func (c *ControlPlane) ServiceAccountToken(ctx context.Context, namespace, name string, audiences ...string) (string, error) {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return "", fmt.Errorf("get a token of service account %s/%s: %w", namespace, name, err)
	}
	accounts := client.CoreV1().ServiceAccounts(namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create service account %s/%s: %w", namespace, name, err)
	}
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, ExpirationSeconds: &seconds},
	}
	issued, err := accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("get a token of service account %s/%s: %w", namespace, name, err)
	}
	return issued.Status.Token, nil
}

// kubeconfigFile is where a user's kubeconfig is.
func (c *ControlPlane) kubeconfigFile(user string) string {
	return filepath.Join(c.directory, url.PathEscape(user)+".kubeconfig")
}

func (c *ControlPlane) writeKubeconfig(file, user, token string) error {
	const name = "test"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   c.secure.url("https"),
		CertificateAuthorityData: c.credentials.authority,
	}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	content, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("write the kubeconfig of %s: %w", user, err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return fmt.Errorf("write the kubeconfig of %s: %w", user, err)
	}
	return nil
}
