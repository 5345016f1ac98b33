package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// SyncerUser is an unprivileged user that every control plane knows, for tests
// that bind the roles meshvm ships and prove that they suffice and are the
// least.
const SyncerUser = "meshvm-syncer"

const (
	// startTimeout bounds the start of one server. Quiet machines need three
	// seconds for both; this is for the loaded ones.
	startTimeout = 2 * time.Minute
	// stopGrace is how long a server has to end before it is killed. Nothing is
	// lost then: what etcd acknowledged is with the kernel. Etcd under a running
	// API server takes all of it, for it waits for streams that do not end.
	stopGrace = 3 * time.Second
)

// Config says how a control plane runs. Its zero value is ready to use.
type Config struct {
	// Users are known besides the administrator and SyncerUser.
	Users []User
	// APIServerFlags are added after the package's own; of a flag given
	// twice kube-apiserver takes the last.
	APIServerFlags []string
	// IstioCRDs has the control plane start with Istio's custom resource
	// definitions installed, as InstallIstioCRDs does.
	IstioCRDs bool
	// Binaries is a folder with kube-apiserver and etcd. Where empty, they are
	// built from test/servers.
	Binaries string
	// Directory holds data, credentials and logs, and is left in place by Stop;
	// etcd's data is in its folder `etcd`, which can be copied there beforehand
	// from a stopped control plane to start with what that one held. Where empty,
	// a temporary folder is used and removed by Stop.
	Directory string
}

// ControlPlane is a running etcd and kube-apiserver. Its methods are safe for
// concurrent use.
type ControlPlane struct {
	config      Config
	root        string // of the repository
	binaries    string
	directory   string
	credentials *credentials
	etcdClients *port
	etcdPeers   *port
	secure      *port

	mu        sync.Mutex // over starting and stopping
	etcd      *server
	apiServer *server
	over      bool // Stop was called
}

// Run starts a control plane and returns once it serves, with the namespace
// `default`, RBAC's own roles and Service addresses in place. The context bounds
// the start (and the building of the servers, where they are missing or stale)
// and nothing after it: the servers run until Stop.
func Run(ctx context.Context, config Config) (*ControlPlane, error) {
	c := &ControlPlane{config: config}
	err := c.prepare(ctx)
	if err == nil {
		err = c.startAll(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("run a control plane: %w", errors.Join(err, c.Stop()))
	}
	return c, nil
}

// prepare makes everything the servers need before they start.
func (c *ControlPlane) prepare(ctx context.Context) (err error) {
	if c.root, err = RepositoryRoot(); err != nil {
		return err
	}
	if c.binaries = c.config.Binaries; c.binaries == "" {
		if c.binaries, err = buildServers(ctx, c.root); err != nil {
			return err
		}
	}
	if c.directory = c.config.Directory; c.directory == "" {
		if c.directory, err = os.MkdirTemp("", "meshvm-controlplane-"); err != nil {
			return err
		}
	}
	users := append([]User{{Name: SyncerUser}}, c.config.Users...)
	if c.credentials, err = createCredentials(c.directory, users); err != nil {
		return err
	}
	for _, p := range []**port{&c.etcdClients, &c.etcdPeers, &c.secure} {
		if *p, err = reservePort(); err != nil {
			return err
		}
	}
	for user, token := range c.credentials.tokens {
		if err := c.writeKubeconfig(c.kubeconfigFile(user), user, token); err != nil {
			return err
		}
	}
	c.etcd = &server{
		name:    "etcd",
		path:    filepath.Join(c.binaries, "etcd"),
		flags:   c.etcdFlags(),
		log:     filepath.Join(c.directory, "etcd.log"),
		isReady: c.etcdIsReady,
	}
	c.apiServer = &server{
		name:    "kube-apiserver",
		path:    filepath.Join(c.binaries, "kube-apiserver"),
		flags:   c.apiServerFlags(),
		log:     filepath.Join(c.directory, "kube-apiserver.log"),
		isReady: c.apiServerIsReady,
	}
	return nil
}

func (c *ControlPlane) startAll(ctx context.Context) error {
	if err := c.StartEtcd(ctx); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if c.config.IstioCRDs {
		return c.InstallIstioCRDs(ctx)
	}
	return nil
}

// Stop ends both servers, with SIGTERM and after a bounded wait with SIGKILL,
// and returns once they are gone. It removes the control plane's files unless
// Config named their folder. It is an error when a server had ended by itself.
// Further calls do nothing.
func (c *ControlPlane) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil
	}
	c.over = true
	var failures []error
	// The API server goes first: it says goodbye to etcd.
	for _, s := range []*server{c.apiServer, c.etcd} {
		if s != nil && s.running != nil {
			failures = append(failures, s.stop())
		}
	}
	for _, p := range []*port{c.etcdClients, c.etcdPeers, c.secure} {
		if p != nil {
			failures = append(failures, p.release())
		}
	}
	if c.config.Directory == "" && c.directory != "" {
		failures = append(failures, os.RemoveAll(c.directory))
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("stop the control plane: %w", err)
	}
	return nil
}

// StartAPIServer starts the API server again after StopAPIServer, on the same
// port and with the same credentials, and returns once it serves.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start(ctx, c.apiServer)
}

// StopAPIServer ends the API server. Open watches end, and connections are
// refused until StartAPIServer.
func (c *ControlPlane) StopAPIServer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apiServer.stop()
}

// StartEtcd starts etcd again after StopEtcd, on the same port and data. It
// returns once etcd serves and the API server, where one is running, has found
// it again.
func (c *ControlPlane) StartEtcd(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.start(ctx, c.etcd); err != nil {
		return err
	}
	if c.apiServer.running == nil {
		return nil
	}
	return c.apiServer.awaitReady(ctx)
}

// StopEtcd ends etcd. The API server stays up, answers what its caches hold and
// fails the rest.
func (c *ControlPlane) StopEtcd() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.etcd.stop()
}

func (c *ControlPlane) start(ctx context.Context, s *server) error {
	if c.over {
		return fmt.Errorf("start %s: the control plane was stopped", s.name)
	}
	return s.start(ctx)
}

// etcdFlags keep etcd on loopback, in memory as far as it allows: a test's data
// need not outlive the machine.
func (c *ControlPlane) etcdFlags() []string {
	clients, peers := c.etcdClients.url("http"), c.etcdPeers.url("http")
	return []string{
		"--name=test",
		"--data-dir=" + filepath.Join(c.directory, "etcd"),
		"--listen-client-urls=" + clients,
		"--advertise-client-urls=" + clients,
		"--listen-peer-urls=" + peers,
		"--initial-advertise-peer-urls=" + peers,
		"--initial-cluster=test=" + peers,
		"--socket-reuse-port",
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

// apiServerFlags give what meshvm meets in a cluster: RBAC, bearer tokens,
// service account tokens, dual-stack Services. The audience `meshvm` is not the
// API server's own, so that a TokenReview that forgets to ask for it fails here
// as it would there.
func (c *ControlPlane) apiServerFlags() []string {
	return slices.Concat([]string{
		"--etcd-servers=" + c.etcdClients.url("http"),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.secure.number),
		"--permit-port-sharing",
		// Without it open watches delay the end by a minute.
		"--shutdown-watch-termination-grace-period=1s",
		// Nothing is advertised: a loopback address is no valid endpoint.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + c.credentials.certificateFile,
		"--tls-private-key-file=" + c.credentials.keyFile,
		"--token-auth-file=" + c.credentials.tokenFile,
		"--authorization-mode=RBAC",
		"--service-account-issuer=" + serviceAccountIssuer,
		"--service-account-signing-key-file=" + c.credentials.serviceAccountKeyFile,
		"--service-account-key-file=" + c.credentials.serviceAccountKeyFile,
		"--api-audiences=" + serviceAccountIssuer,
		"--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
		// Without a controller manager no namespace gets its default account.
		"--disable-admission-plugins=ServiceAccount",
	}, c.config.APIServerFlags)
}
