package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// readBounded reads a document, and fails on one that is larger than any that is meant.
func readBounded(from io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(from, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxDocument {
		return nil, fmt.Errorf("it is larger than %d bytes", maxDocument)
	}
	return content, nil
}

type issuer struct {
	base   string
	client *http.Client
}

// Issuer is an OpenID Connect issuer on the web, as the cloud's Kubernetes services have one for each cluster: its discovery document
// (OpenID Connect Discovery 1.0, section 4) says where its keys are. Everything on the way must be https, and is verified with the
// authorities of the client, which is not changed.
func Issuer(base string, client *http.Client) (Source, error) {
	if err := checkURL(base); err != nil {
		return nil, err
	}
	own := *client
	own.CheckRedirect = func(request *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return checkURL(request.URL.String())
	}
	return issuer{strings.TrimSuffix(base, "/"), &own}, nil
}

const maxRedirects = 3

// checkURL refuses what is no plain https URL.
func checkURL(text string) error {
	parsed, err := url.Parse(text)
	if err != nil {
		return errors.New("it is no URL")
	}
	if parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return errors.New("want https://HOST[:PORT][/PATH]")
	}
	return nil
}

func (i issuer) Refresh() time.Duration { return remoteRefresh }

func (i issuer) String() string { return i.base }

func (i issuer) Fetch(ctx context.Context) (name string, keys []byte, err error) {
	content, err := get(ctx, i.client, i.base+discoveryPath)
	if err != nil {
		return "", nil, err
	}
	d, err := parseDiscovery(content)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", i.base+discoveryPath, err)
	}
	if err := checkURL(d.Keys); err != nil {
		return "", nil, fmt.Errorf("%s: jwks_uri %q: %w", i.base+discoveryPath, d.Keys, err)
	}
	keys, err = get(ctx, i.client, d.Keys)
	return d.Issuer, keys, err
}

// get is the document at an address.
func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err // It names the URL.
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", address, response.Status)
	}
	content, err := readBounded(response.Body)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", address, err)
	}
	return content, nil
}
