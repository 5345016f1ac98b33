package bootstrap

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// AuthorityKey is the key of a ConfigMap or a Secret that holds certificates of authorities, by the custom of
// Kubernetes and cert-manager.
const AuthorityKey = "ca.crt"

// maxAuthorities bounds a file of them, in bytes. All public ones are 0.3 MB.
const maxAuthorities = 1 << 20

// Authorities are certificates, PEM, and nothing else.
type Authorities []byte

// ReadAuthorities takes the certificates of a file.
func ReadAuthorities(path string, now time.Time) (Authorities, error) {
	content, err := readSmall(path, maxAuthorities)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	authorities, err := parseAuthorities(content, now)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities %s: %w", path, err)
	}
	return authorities, nil
}

// AuthoritiesInConfigMap takes the certificates that a ConfigMap has under AuthorityKey.
func (c *Cluster) AuthoritiesInConfigMap(ctx context.Context, name types.NamespacedName, now time.Time) (Authorities, error) {
	object, err := c.core.ConfigMaps(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if err != nil {
		return nil, notFound("ConfigMap", name, err)
	}
	return underKey("ConfigMap", name, []byte(object.Data[AuthorityKey]), now)
}

// AuthoritiesInSecret takes the certificates that a Secret has under AuthorityKey.
func (c *Cluster) AuthoritiesInSecret(ctx context.Context, name types.NamespacedName, now time.Time) (Authorities, error) {
	object, err := c.core.Secrets(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if err != nil {
		return nil, notFound("Secret", name, err)
	}
	return underKey("Secret", name, object.Data[AuthorityKey], now)
}

func notFound(kind string, name types.NamespacedName, err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no %s %s with the authority of the syncer's certificate: want --ca-file, --ca-configmap or --ca-secret", kind, name)
	}
	return fmt.Errorf("find the authority of the syncer's certificate in %s %s (or give --ca-file): %w", kind, name, err)
}

func underKey(kind string, name types.NamespacedName, content []byte, now time.Time) (Authorities, error) {
	if len(content) == 0 {
		return nil, fmt.Errorf("%s %s has no key %s with the authority of the syncer's certificate", kind, name, AuthorityKey)
	}
	authorities, err := parseAuthorities(content, now)
	if err != nil {
		return nil, fmt.Errorf("key %s of %s %s: %w", AuthorityKey, kind, name, err)
	}
	return authorities, nil
}

// parseAuthorities takes every certificate, each once, and leaves out whatever else is there, such as a key.
func parseAuthorities(content []byte, now time.Time) (Authorities, error) {
	var certificates []*x509.Certificate
	var encoded bytes.Buffer
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certificates)+1, err)
		}
		if slices.ContainsFunc(certificates, certificate.Equal) {
			continue
		}
		certificates = append(certificates, certificate)
		if err := pem.Encode(&encoded, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return nil, err
		}
	}
	if len(certificates) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	isOver := func(c *x509.Certificate) bool { return now.After(c.NotAfter) }
	if !slices.ContainsFunc(certificates, func(c *x509.Certificate) bool { return !isOver(c) }) {
		return nil, fmt.Errorf("it has expired: %s, at %s", certificates[0].Subject, certificates[0].NotAfter.UTC().Format(time.RFC3339))
	}
	return encoded.Bytes(), nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened: a pipe would block
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(content)) > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return content, nil
}
