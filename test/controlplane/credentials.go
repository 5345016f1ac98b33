package controlplane

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/csv"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// adminUser is in system:masters: RBAC lets it do everything.
const adminUser = "admin"

// User is someone the API server knows by a bearer token of its own.
type User struct {
	// Name is the RBAC user name.
	Name string
	// Groups are the RBAC groups besides system:authenticated, which every
	// user is in.
	Groups []string
}

// credentials are the files that identify the API server and its users to each
// other, made anew for each control plane.
type credentials struct {
	authority             []byte // PEM, what clients verify the server with
	certificateFile       string
	keyFile               string
	serviceAccountKeyFile string
	tokenFile             string
	tokens                map[string]string // by user name
}

// createCredentials writes the files into folder.
func createCredentials(folder string, users []User) (*credentials, error) {
	c := &credentials{
		certificateFile:       filepath.Join(folder, "serving.crt"),
		keyFile:               filepath.Join(folder, "serving.key"),
		serviceAccountKeyFile: filepath.Join(folder, "service-account.key"),
		tokenFile:             filepath.Join(folder, "tokens.csv"),
		tokens:                map[string]string{},
	}
	if err := c.writeServingCertificate(); err != nil {
		return nil, fmt.Errorf("create the serving certificate: %w", err)
	}
	if _, err := writePrivateKey(c.serviceAccountKeyFile); err != nil {
		return nil, fmt.Errorf("create the service account key: %w", err)
	}
	if err := c.writeTokens(users); err != nil {
		return nil, fmt.Errorf("create the token file: %w", err)
	}
	return c, nil
}

// writeServingCertificate makes an authority, signs one certificate with it and
// forgets the authority's key.
func (c *credentials) writeServingCertificate() error {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(7*24*time.Hour)
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "meshvm test control plane authority"},
		NotBefore:             from,
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return err
	}
	c.authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER})

	key, err := writePrivateKey(c.keyFile)
	if err != nil {
		return err
	}
	serving := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:    from,
		NotAfter:     until,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	servingDER, err := x509.CreateCertificate(rand.Reader, serving, authority, key.Public(), authorityKey)
	if err != nil {
		return err
	}
	return os.WriteFile(c.certificateFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: servingDER}), 0o600)
}

func writePrivateKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// writeTokens gives the administrator and every user a random token.
func (c *credentials) writeTokens(users []User) error {
	var content bytes.Buffer
	rows := csv.NewWriter(&content)
	for _, user := range append([]User{{Name: adminUser, Groups: []string{"system:masters"}}}, users...) {
		if user.Name == "" {
			return errors.New("a user has no name")
		}
		if _, twice := c.tokens[user.Name]; twice {
			return fmt.Errorf("user %q is given twice, or is the administrator", user.Name)
		}
		c.tokens[user.Name] = rand.Text()
		// Columns: token, user name, user ID, groups.
		if err := rows.Write([]string{c.tokens[user.Name], user.Name, user.Name, strings.Join(user.Groups, ",")}); err != nil {
			return err
		}
	}
	rows.Flush()
	if err := rows.Error(); err != nil {
		return err
	}
	return os.WriteFile(c.tokenFile, content.Bytes(), 0o600)
}
