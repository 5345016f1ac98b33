package jwks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"k8s.io/client-go/rest"
)

// Source is where an issuer's keys are.
type Source interface {
	// Fetch returns the issuer whose keys these are, empty where the source does not say, and the key set in JSON form.
	Fetch(ctx context.Context) (issuer string, keys []byte, err error)
	// Refresh is how often it is fetched.
	Refresh() time.Duration
	// String names it for people.
	String() string
}

// Paths of OpenID Connect Discovery 1.0, section 4, and of Kubernetes' keys.
const (
	discoveryPath = "/.well-known/openid-configuration"
	clusterKeys   = "/openid/v1/jwks"
)

const (
	remoteRefresh = 5 * time.Minute
	fileRefresh   = 5 * time.Second
	// maxDocument bounds what is read of a source.
	maxDocument = 1 << 20
)

// discovery is what counts of a discovery document.
type discovery struct {
	Issuer string `json:"issuer"`
	Keys   string `json:"jwks_uri"`
}

func parseDiscovery(content []byte) (discovery, error) {
	var d discovery
	if err := json.Unmarshal(content, &d); err != nil {
		return discovery{}, fmt.Errorf("read the discovery document: %w", err)
	}
	if d.Issuer == "" {
		return discovery{}, errors.New("the discovery document names no issuer")
	}
	return d, nil
}

type cluster struct {
	base   string
	client *http.Client
}

// Cluster is the API server itself, with the credentials that the syncer has there. Every ServiceAccount may read both documents by
// the ClusterRole system:service-account-issuer-discovery.
func Cluster(reach *rest.Config) (Source, error) {
	server, _, err := rest.DefaultServerUrlFor(reach)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	client, err := rest.HTTPClientFor(reach)
	if err != nil {
		return nil, fmt.Errorf("prepare to fetch token keys of the API server %s: %w", server.Host, err)
	}
	return cluster{strings.TrimSuffix(server.String(), "/"), client}, nil
}

func (c cluster) Refresh() time.Duration { return remoteRefresh }

func (c cluster) String() string { return "the API server" }

func (c cluster) Fetch(ctx context.Context) (issuer string, keys []byte, err error) {
	content, err := get(ctx, c.client, c.base+discoveryPath)
	if err != nil {
		return "", nil, err
	}
	d, err := parseDiscovery(content)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", c.base+discoveryPath, err)
	}
	// What jwks_uri says is for those outside, and may be an address that the syncer does not reach.
	keys, err = get(ctx, c.client, c.base+clusterKeys)
	return d.Issuer, keys, err
}

type file string

// File is a key set in a file, as `kubectl get --raw /openid/v1/jwks` prints it.
func File(path string) Source { return file(path) }

func (f file) Refresh() time.Duration { return fileRefresh }

func (f file) String() string { return string(f) }

func (f file) Fetch(context.Context) (issuer string, keys []byte, err error) {
	opened, err := os.Open(string(f))
	if err != nil {
		return "", nil, err
	}
	defer opened.Close()
	keys, err = readBounded(opened)
	return "", keys, err
}
