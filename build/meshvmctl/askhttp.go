package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/meshvm/meshvm/syncer/server/explain"
)

// maxExplanation bounds what is read of an answer, in bytes.
const maxExplanation = 16 << 20

// askHTTP asks a syncer's /debug/registry.
func (l *lookup) askHTTP(ctx context.Context) (explain.Explanation, error) {
	address, err := l.explanationURL()
	if err != nil {
		return explain.Explanation{}, usageError{err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return explain.Explanation{}, usageError{fmt.Errorf("--http %q: %w", l.http, err)}
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return explain.Explanation{}, fmt.Errorf("ask the syncer: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxExplanation))
	if err != nil {
		return explain.Explanation{}, fmt.Errorf("read the answer of %s: %w", l.http, err)
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest:
		return explain.Explanation{}, usageError{fmt.Errorf("the syncer refuses the question: %s", firstLine(body))}
	default:
		return explain.Explanation{}, fmt.Errorf("%s answers %s: %s", l.http, response.Status, firstLine(body))
	}
	var explanation explain.Explanation
	if err := json.Unmarshal(body, &explanation); err != nil {
		return explain.Explanation{}, fmt.Errorf("%s does not answer as a syncer: %w", l.http, err)
	}
	return explanation, nil
}

// explanationURL is where to ask. The address is HOST:PORT or a URL.
func (l *lookup) explanationURL() (string, error) {
	address := l.http
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return "", fmt.Errorf("--http %q: want HOST:PORT or a URL", l.http)
	}
	query := url.Values{"name": {l.name}}
	if l.recordType != "" {
		query.Set("type", l.recordType)
	}
	if l.namespace != "" {
		query.Set("namespace", l.namespace)
	}
	base = base.JoinPath("debug", "registry")
	base.RawQuery = query.Encode()
	return base.String(), nil
}

func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return line
}
