package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// serviceAccountIssuer issues the tokens of every control plane.
const serviceAccountIssuer = "https://kubernetes.default.svc"

// ServiceAccountKey is the key that the API server signs tokens with.
func (c *ControlPlane) ServiceAccountKey() (*ecdsa.PrivateKey, error) {
	content, err := os.ReadFile(c.credentials.serviceAccountKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account key: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("read the service account key: no PEM in %s", c.credentials.serviceAccountKeyFile)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// ServiceAccountIssuer is the issuer that tokens of this control plane name.
func (c *ControlPlane) ServiceAccountIssuer() string { return serviceAccountIssuer }

// Token is what a signed token says. The zero value of a time leaves the claim out.
type Token struct {
	Issuer, Namespace, ServiceAccount, UID string
	Audience                               []string
	NotBefore, Expires                     time.Time
	// KeyID is that of the key; SignToken finds the API server's where it is empty.
	KeyID string
}

// Sign signs a token in the form of the API server's with any key of an algorithm.
func (t Token) Sign(algorithm jose.SignatureAlgorithm, key any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: t.KeyID}}, nil)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: t.Issuer, Subject: "system:serviceaccount:" + t.Namespace + ":" + t.ServiceAccount, Audience: t.Audience,
		NotBefore: jwt.NewNumericDate(t.NotBefore), Expiry: jwt.NewNumericDate(t.Expires),
	}).Claims(map[string]any{"kubernetes.io": map[string]any{
		"namespace": t.Namespace, "serviceaccount": map[string]any{"name": t.ServiceAccount, "uid": t.UID},
	}}).Serialize()
}

// SignToken issues a token of a ServiceAccount with the API server's own key, and with times that the API server itself would not give
// it. The account is created where it does not exist. Issuer, UID and key ID are the true ones where they are empty.
func (c *ControlPlane) SignToken(ctx context.Context, t Token) (string, error) {
	uid, err := c.serviceAccountUID(ctx, t.Namespace, t.ServiceAccount)
	if err != nil {
		return "", err
	}
	key, err := c.ServiceAccountKey()
	if err != nil {
		return "", err
	}
	if t.UID == "" {
		t.UID = uid
	}
	if t.Issuer == "" {
		t.Issuer = serviceAccountIssuer
	}
	if t.KeyID == "" {
		if t.KeyID, err = c.serviceAccountKeyID(ctx, t.Namespace, t.ServiceAccount); err != nil {
			return "", err
		}
	}
	return t.Sign(jose.ES256, key)
}

// serviceAccountUID is the UID of an account, which is created where it does not exist.
func (c *ControlPlane) serviceAccountUID(ctx context.Context, namespace, name string) (string, error) {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return "", err
	}
	accounts := client.CoreV1().ServiceAccounts(namespace)
	account, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		account, err = accounts.Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return "", fmt.Errorf("create service account %s/%s: %w", namespace, name, err)
	}
	return string(account.UID), nil
}

// serviceAccountKeyID is how the API server names its key, as a token of its own says.
func (c *ControlPlane) serviceAccountKeyID(ctx context.Context, namespace, name string) (string, error) {
	token, err := c.ServiceAccountToken(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return "", fmt.Errorf("read a token of service account %s/%s: %w", namespace, name, err)
	}
	i := slices.IndexFunc(parsed.Headers, func(header jose.Header) bool { return header.KeyID != "" })
	if i < 0 {
		return "", fmt.Errorf("a token of service account %s/%s names no key", namespace, name)
	}
	return parsed.Headers[i].KeyID, nil
}

// DeleteServiceAccount deletes an account, and so takes back all of its tokens.
func (c *ControlPlane) DeleteServiceAccount(ctx context.Context, namespace, name string) error {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	if err := client.CoreV1().ServiceAccounts(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete service account %s/%s: %w", namespace, name, err)
	}
	return nil
}

// ReplaceServiceAccountKey has the API server sign with a new key from now on, and take back all tokens of the old one. It is
// started anew for that.
func (c *ControlPlane) ReplaceServiceAccountKey(ctx context.Context) error {
	if err := c.StopAPIServer(); err != nil {
		return err
	}
	if _, err := writePrivateKey(c.credentials.serviceAccountKeyFile); err != nil {
		return fmt.Errorf("replace the service account key: %w", err)
	}
	return c.StartAPIServer(ctx)
}
