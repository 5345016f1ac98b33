package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/meshvm/meshvm/syncer/server/explain"
)

// maxExplanation bounds what is read of an explanation, in bytes.
const maxExplanation = 16 << 20

// askHTTP asks a syncer's /debug/registry.
func (l *lookup) askHTTP(ctx context.Context) (explain.Explanation, error) {
	var explanation explain.Explanation
	err := l.httpPort().ask(ctx, "registry", l.query(), maxExplanation, &explanation)
	return explanation, err
}

func (l *lookup) query() url.Values {
	query := url.Values{"name": {l.name}}
	if l.recordType != "" {
		query.Set("type", l.recordType)
	}
	if l.namespace != "" {
		query.Set("namespace", l.namespace)
	}
	if l.node != "" {
		query.Set("node", l.node)
	}
	return query
}

// httpPort is a syncer's, as the command line has it.
func (l *lookup) httpPort() httpPort {
	return httpPort{l.http, l.connection.TLS.CAFile, l.connection.ServerName}
}

// httpPort is a syncer's port for people.
type httpPort struct {
	// address is HOST:PORT or a URL.
	address string
	// caFile and serverName are whose certificate is expected with https; empty, as the system trusts, and as address says.
	caFile, serverName string
}

// check refuses what would have no effect.
func (p httpPort) check() error {
	if (p.caFile != "" || p.serverName != "") && !strings.HasPrefix(p.address, "https://") {
		return fmt.Errorf("--tls-ca-file and --tls-server-name, with --http %q: want https://", p.address)
	}
	return nil
}

// client is whom the port is asked by.
func (p httpPort) client() (*http.Client, error) {
	config := &tls.Config{ServerName: p.serverName}
	if p.caFile != "" {
		content, err := os.ReadFile(p.caFile)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("--tls-ca-file %s: no certificate in it", p.caFile)
		}
	}
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: config}}, nil
}

// ask asks one of a syncer's pages below /debug, and decodes its answer of at most limit bytes.
func (p httpPort) ask(ctx context.Context, page string, query url.Values, limit int64, answer any) error {
	address := p.address
	where, err := pageURL(address, page, query)
	if err != nil {
		return usageError{err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return usageError{fmt.Errorf("--http %q: %w", address, err)}
	}
	client, err := p.client()
	if err != nil {
		return usageError{err}
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the syncer: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", address, err)
	case int64(len(body)) > limit:
		return fmt.Errorf("the answer of %s is larger than %d bytes", address, limit)
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest:
		return usageError{fmt.Errorf("the syncer refuses the question: %s", firstLine(body))}
	default:
		return fmt.Errorf("%s answers %s: %s", address, response.Status, firstLine(body))
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%s does not answer as a syncer: %w", address, err)
	}
	return nil
}

// pageURL is where a syncer is asked.
func pageURL(address, page string, query url.Values) (string, error) {
	text := address
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return "", fmt.Errorf("--http %q: want HOST:PORT or a URL", address)
	}
	base = base.JoinPath("debug", page)
	base.RawQuery = query.Encode()
	return base.String(), nil
}

func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return line
}
