package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TLSFiles are the PEM files of the server's side of mutual TLS.
type TLSFiles struct {
	// Certificate is the server's chain, leaf first, and Key its private key.
	Certificate, Key string
	// ClientCA holds the authorities that sign the VMs' certificates. Empty: VMs are not asked for one, and show tokens.
	ClientCA string
}

// certificates are what the files hold, read again for every handshake, so that a rotation needs no
// watch and no signal. Files that cannot be used leave the last good ones in use.
type certificates struct {
	files TLSFiles
	// clientAuth is what is asked of clients.
	clientAuth tls.ClientAuthType
	log        *slog.Logger
	errors     prometheus.Counter

	mu sync.Mutex
	// seen is what the files held when they were last looked at, good or bad; problem what was wrong
	// with it.
	seen    pemFiles
	problem string
	good    *tls.Config
	// trusted are the client authorities in use, in PEM form, and generation counts those that were, from 1.
	trusted    []byte
	generation uint64
}

// pemFiles is the content of TLSFiles.
type pemFiles struct{ certificate, key, clientCA []byte }

func (p pemFiles) equal(other pemFiles) bool {
	return bytes.Equal(p.certificate, other.certificate) && bytes.Equal(p.key, other.key) && bytes.Equal(p.clientCA, other.clientCA)
}

// loadCertificates reads the files for the first time. With tokens a VM may come without a certificate.
func loadCertificates(files TLSFiles, tokens bool, log *slog.Logger, failures prometheus.Counter) (*certificates, error) {
	c := &certificates{files: files, clientAuth: tls.RequireAndVerifyClientCert, log: log, errors: failures, generation: 1}
	switch {
	case files.ClientCA == "":
		c.clientAuth = tls.NoClientCert
	case tokens:
		c.clientAuth = tls.VerifyClientCertIfGiven
	}
	content, err := files.read()
	if err != nil {
		return nil, err
	}
	config, err := c.parse(content)
	if err != nil {
		return nil, err
	}
	c.seen, c.good, c.trusted = content, config, content.clientCA
	return c, nil
}

// config is the configuration to listen with.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current(), nil
		},
	}
}

// webConfig is the configuration to listen with for HTTP: with the same certificate, and nobody is asked for one.
func (c *certificates) webConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := c.current().Clone()
			config.NextProtos, config.ClientAuth, config.ClientCAs = []string{"http/1.1"}, tls.NoClientCert, nil
			return config, nil
		},
	}
}

// current is the configuration for one handshake.
func (c *certificates) current() *tls.Config {
	// Read under the lock, so that no handshake goes back to what another has seen replaced.
	c.mu.Lock()
	defer c.mu.Unlock()
	content, err := c.files.read()
	if err != nil {
		c.seen = pemFiles{}
		c.fault(err)
		return c.good
	}
	if content.equal(c.seen) {
		return c.good
	}
	c.seen = content
	config, err := c.parse(content)
	if err != nil {
		c.fault(err)
		return c.good
	}
	c.problem, c.good = "", config
	if !bytes.Equal(c.trusted, content.clientCA) {
		c.trusted = content.clientCA
		c.generation++
	}
	c.log.Info("TLS files reloaded", "cert", c.files.Certificate, "key", c.files.Key, "client_ca", c.files.ClientCA)
	return config
}

// authorities are the client authorities in use, and which generation of them.
func (c *certificates) authorities() (*x509.CertPool, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.good.ClientCAs, c.generation
}

// expiry is when the certificate that a handshake would show now ends.
func (c *certificates) expiry() time.Time {
	if pair := c.current().Certificates; len(pair) > 0 && pair[0].Leaf != nil {
		return pair[0].Leaf.NotAfter
	}
	return time.Time{}
}

// fault counts and logs what is wrong with the files, once for as long as it stays the same.
func (c *certificates) fault(err error) {
	if err.Error() == c.problem {
		return
	}
	c.problem = err.Error()
	c.errors.Inc()
	c.log.Error("TLS files cannot be used: the last good ones stay in use", "error", err)
}

func (f TLSFiles) read() (pemFiles, error) {
	var content pemFiles
	for _, file := range []struct {
		what, path string
		into       *[]byte
	}{
		{"certificate", f.Certificate, &content.certificate},
		{"private key", f.Key, &content.key},
		{"client CA", f.ClientCA, &content.clientCA},
	} {
		if file.path == "" {
			continue
		}
		body, err := os.ReadFile(file.path)
		if err != nil {
			return pemFiles{}, fmt.Errorf("read TLS %s: %w", file.what, err)
		}
		*file.into = body
	}
	return content, nil
}

func (c *certificates) parse(content pemFiles) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(content.certificate, content.key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with private key %s: %w", c.files.Certificate, c.files.Key, err)
	}
	authorities := x509.NewCertPool()
	if c.files.ClientCA != "" && !authorities.AppendCertsFromPEM(content.clientCA) {
		return nil, fmt.Errorf("TLS client CA %s: %w", c.files.ClientCA, errors.New("no certificate in PEM form in it"))
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{pair},
		ClientAuth:   c.clientAuth,
		ClientCAs:    authorities,
		// A resumed session would outlive the authority that vouched for it.
		SessionTicketsDisabled: true,
	}, nil
}
