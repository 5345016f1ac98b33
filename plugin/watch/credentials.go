package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

const (
	// maxPEMBytes bounds each TLS file; a bundle of all public authorities has 0.3 MB.
	maxPEMBytes = 4 << 20
	// maxTokenBytes bounds a token: HTTP/2 servers take no longer header.
	maxTokenBytes = 12 << 10
)

// tlsSource makes the TLS configuration of each connection from files that may be rotated. It is used
// by one goroutine at a time.
type tlsSource struct {
	files      TLSFiles
	serverName string
	log        *slog.Logger

	current *tls.Config
	// credential is the client certificate of current. Its zero value: there is none.
	credential Credential
	// read is the digest of the files that current is made of.
	read [sha256.Size]byte
	// fault is what is wrong with the files now, as it was logged. Empty: nothing.
	fault string
}

// newTLSSource reads the files for the first time. The error names the file at fault.
func newTLSSource(files TLSFiles, serverName string, log *slog.Logger) (*tlsSource, error) {
	if (files.CertFile == "") != (files.KeyFile == "") {
		return nil, errors.New("a client certificate and its key are needed both, or none")
	}
	s := &tlsSource{files: files, serverName: serverName, log: log}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// config is the configuration for a connection that is made now. When the files are not whole, as in
// the midst of a rotation, it is the last that was.
func (s *tlsSource) config() *tls.Config {
	switch err := s.load(); {
	case err == nil:
		s.fault = ""
	case err.Error() != s.fault:
		s.fault = err.Error()
		s.log.Error("TLS files not usable, the last good ones stay in use", "error", err)
	}
	return s.current
}

func (s *tlsSource) load() error {
	var content [3][]byte
	digest := sha256.New()
	for i, path := range []string{s.files.CertFile, s.files.KeyFile, s.files.CAFile} {
		if path == "" {
			continue
		}
		read, err := readFile(path, maxPEMBytes)
		if err != nil {
			return fmt.Errorf("read TLS file: %w", err)
		}
		content[i] = read
		sum := sha256.Sum256(read)
		digest.Write(sum[:])
	}
	var read [sha256.Size]byte
	digest.Sum(read[:0])
	if s.current != nil && read == s.read {
		return nil
	}
	config, credential, err := s.parse(content[0], content[1], content[2])
	if err != nil {
		return err
	}
	if s.current != nil {
		s.log.Info("TLS files reloaded", "cert", s.files.CertFile, "ca", s.files.CAFile)
	}
	s.current, s.credential, s.read = config, credential, read
	return nil
}

func (s *tlsSource) parse(cert, key, ca []byte) (*tls.Config, Credential, error) {
	var credential Credential
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.serverName}
	if s.files.CertFile != "" {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, Credential{}, fmt.Errorf("client certificate %s with key %s: %w", s.files.CertFile, s.files.KeyFile, err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			return nil, Credential{}, fmt.Errorf("client certificate %s: %w", s.files.CertFile, err)
		}
		credential = certificateCredential(s.files.CertFile, leaf)
		// Unlike Certificates, this also sends a certificate that the server's list of authorities does
		// not cover: the server's refusal then says why.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if s.files.CAFile != "" {
		pool, err := parseAuthorities(ca)
		if err != nil {
			return nil, Credential{}, fmt.Errorf("certificate authorities %s: %w", s.files.CAFile, err)
		}
		config.RootCAs = pool
	}
	if IsSPIFFEID(s.serverName) {
		expectSPIFFEID(config, s.serverName)
	}
	return config, credential, nil
}

// parseAuthorities takes every certificate of a bundle. CertPool's own parser skips broken ones.
func parseAuthorities(bundle []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	found := 0
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", found, err)
		}
		pool.AddCert(certificate)
	}
	if found == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return pool, nil
}

// token is a bearer token as it goes with the stream of one connection.
type token struct {
	value string
	// plaintext is set only where every syncer is on loopback.
	plaintext bool
}

// IsToken reports whether a text is a token itself, as those of Kubernetes are (RFC 7519, section 3). Where the name of
// a file is expected, people put the token: what is printed must not repeat it.
func IsToken(text string) bool {
	return len(text) > 64 && strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2
}

// readToken reads a token. Its errors name the file and never the content.
func readToken(path string, plaintext bool) (token, error) {
	if IsToken(path) {
		return token{}, errors.New("read token: what is given is a token itself, want the name of a file that holds it")
	}
	content, err := readFile(path, maxTokenBytes)
	if err != nil {
		return token{}, fmt.Errorf("read token: %w", err)
	}
	value := string(bytes.TrimSpace(content))
	if value == "" {
		return token{}, fmt.Errorf("token file %s is empty", path)
	}
	for i := range len(value) {
		if value[i] <= ' ' || value[i] > '~' {
			return token{}, fmt.Errorf("token file %s holds more than a token: byte %d is not printable ASCII", path, i+1)
		}
	}
	return token{value: value, plaintext: plaintext}, nil
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + t.value}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (t token) RequireTransportSecurity() bool { return !t.plaintext }

// String keeps the token out of whatever is printed.
func (token) String() string { return "token" }

// GoString keeps the token out of whatever is printed.
func (token) GoString() string { return "token" }

// readFile reads a whole file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return content, nil
}
