package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// etcdIsReady asks etcd once whether it serves.
func (c *ControlPlane) etcdIsReady(ctx context.Context) error {
	return get(ctx, nil, c.etcdClients.url("http"), "/readyz", "")
}

// apiServerIsReady asks the API server once whether it serves, and whether it
// has made what it makes in the background after that: the namespace `default`,
// and with the Service `kubernetes` the proof that it can give out addresses.
func (c *ControlPlane) apiServerIsReady(ctx context.Context) error {
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(c.credentials.authority) {
		return errors.New("the control plane's authority is no certificate")
	}
	for _, path := range []string{
		"/readyz",
		"/api/v1/namespaces/default",
		"/api/v1/namespaces/default/services/kubernetes",
	} {
		if err := get(ctx, authorities, c.secure.url("https"), path, c.credentials.tokens[adminUser]); err != nil {
			return err
		}
	}
	return nil
}

// get fetches a path over a connection of its own, and fails unless the answer
// is 200.
func get(ctx context.Context, authorities *x509.CertPool, server, path, token string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+path, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: authorities},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, response.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
