package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// credentials are an authority and what it signs: each VM has a certificate of its own, as in a real
// mesh, and all share one private key, which the syncer never sees.
type credentials struct {
	folder    string
	authority *x509.Certificate
	signer    *ecdsa.PrivateKey
	key       *ecdsa.PrivateKey
	roots     *x509.CertPool
	serial    int64
}

const serverName = "syncer.meshvm.example"

// newCredentials writes the syncer's files, and those of one VM, to a folder.
func newCredentials(folder string) (*credentials, error) {
	c := &credentials{folder: folder, roots: x509.NewCertPool()}
	if err := c.begin(); err != nil {
		return nil, err
	}
	server, err := c.issue("syncer", nil)
	if err != nil {
		return nil, err
	}
	vm, err := c.issueVM(0, viewName(0))
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, err
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":     {Type: "CERTIFICATE", Bytes: c.authority.Raw},
		"server.pem": {Type: "CERTIFICATE", Bytes: server},
		"vm.pem":     {Type: "CERTIFICATE", Bytes: vm.Certificate[0]},
		"key.pem":    {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// begin makes the authority and the key.
func (c *credentials) begin() (err error) {
	if c.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "meshvm bench"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.signer.Public(), c.signer)
	if err != nil {
		return err
	}
	if c.authority, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	c.roots.AddCert(c.authority)
	return nil
}

func (c *credentials) path(name string) string { return filepath.Join(c.folder, name) }

// issueVM is the certificate of a VM: its SPIFFE ID says which namespace's view it is sent.
func (c *credentials) issueVM(i int, namespace string) (tls.Certificate, error) {
	id := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: fmt.Sprintf("/ns/%s/sa/vm-%d", namespace, i)}
	der, err := c.issue(fmt.Sprintf("vm-%d", i), id)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.key}, nil
}

func (c *credentials) issue(name string, id *url.URL) ([]byte, error) {
	c.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + c.serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if id != nil {
		template.URIs = []*url.URL{id}
	} else {
		template.DNSNames = []string{serverName}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	return x509.CreateCertificate(rand.Reader, template, c.authority, c.key.Public(), c.signer)
}
