package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/syncer/source"
)

// Ports of the two listeners.
const (
	defaultPort     = ":15054"
	defaultHTTPPort = ":15055"
)

// settings are the flags, checked.
type settings struct {
	kubeconfig, manifests string
	listen, httpListen    string
	translation           source.Options
	mesh                  types.NamespacedName // ConfigMap of the mesh configuration; zero: none
	tls                   *server.TLSFiles     // nil: plaintext
	identity              identitySettings
	replicas              string
	httpByCluster         bool           // the cluster decides who sees /metrics and /status
	bounds                server.Options // only what the flags of bounds say
	guard                 registry.GuardOptions
	vip                   vipSettings
	vipState              string // the file of the ledger, empty where there is none
	logLevel              slog.Level
	logFormat             string

	help, version bool
	usage         string
}

// rawFlags are the flags as they were given.
type rawFlags struct {
	kubeconfig, manifests, listen, httpListen string
	clusterDomain, defaultExport              string
	cert, key, clientCA                       string
	insecure                                  bool
	httpAuthorization, replicas               string
	identity                                  identityFlags
	vip                                       vipFlags
	vipState                                  stateFlags
	pending                                   pendingFlags
	bounds                                    boundFlags
	guard                                     guardFlags
	sidecar                                   sidecarFlags
	mesh                                      meshFlags
	logLevel, logFormat                       string
	version                                   bool
}

func (r *rawFlags) declare(flags *pflag.FlagSet) {
	flags.StringVar(&r.kubeconfig, "kubeconfig", "", "follow the cluster of this kubeconfig `FILE`; without it and --manifests, the cluster that the syncer runs in; with --manifests only tokens and RBAC are asked of it")
	flags.StringVar(&r.manifests, "manifests", "", "follow the manifests in this folder, `DIR`, instead of a cluster")
	flags.StringVar(&r.listen, "listen", "", "`ADDR`ess that VMs connect to (default \"127.0.0.1:15054\" with --insecure, else \":15054\")")
	flags.StringVar(&r.httpListen, "http-listen", "", "`ADDR`ess of /metrics, /healthz, /readyz, /status, /debug/registry, /debug/guard and /debug/vips (default \"127.0.0.1:15055\" with --insecure, else \":15055\")")
	flags.StringVar(&r.replicas, "replicas", "", "headless Service of all syncers, `NAMESPACE/NAME`, whose endpoints the status page lists")
	flags.StringVar(&r.httpAuthorization, "http-authorization", httpOpen, "who may see /metrics and /status: `open` (metrics everybody, the status page whoever asks from this machine), or kubernetes: whose token the cluster allows to get them; the port is TLS then")
	flags.StringVar(&r.clusterDomain, "cluster-domain", source.DefaultClusterDomain, "DNS `ZONE` of the cluster's Services")
	flags.StringVar(&r.defaultExport, "default-export", "*", "who sees an object without exportTo: *, . (its own namespace), ~ (nobody), or `NAMESPACES` separated by commas")
	r.mesh.declare(flags)
	flags.StringVar(&r.cert, "tls-cert-file", "", "PEM `FILE` of the syncer's certificate chain; reloaded when it changes")
	flags.StringVar(&r.key, "tls-private-key-file", "", "PEM `FILE` of the certificate's private key; reloaded when it changes")
	flags.StringVar(&r.clientCA, "client-ca-file", "", "PEM `FILE` of the authorities that VMs' certificates come from; reloaded when it changes; may be left out where tokens are taken")
	flags.BoolVar(&r.insecure, "insecure", false, "plaintext; only when --listen is a loopback address")
	r.identity.declare(flags)
	r.vip.declare(flags)
	r.vipState.declare(flags)
	r.pending.declare(flags)
	r.bounds.declare(flags)
	r.guard.declare(flags)
	r.sidecar.declare(flags)
	flags.StringVar(&r.logLevel, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	flags.StringVar(&r.logFormat, "log-format", "text", "`FORMAT` of the log: text or json")
	flags.BoolVar(&r.version, "version", false, "print the version and exit")
}

// parse reads the command line. Its error is one line that names the flag and what is expected.
func parse(args []string) (settings, error) {
	var raw rawFlags
	flags := pflag.NewFlagSet("meshvm-syncer", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.SortFlags = false
	flags.Usage = func() {} // what --help prints is run's
	raw.declare(flags)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return settings{help: true, usage: usage(flags)}, nil
	case err != nil:
		return settings{}, fmt.Errorf("%w (see --help)", err)
	case flags.NArg() > 0:
		return settings{}, fmt.Errorf("unexpected argument %q: there are only flags (see --help)", flags.Arg(0))
	case raw.version:
		return settings{version: true}, nil
	}
	return raw.check(flags.Changed)
}

func usage(flags *pflag.FlagSet) string {
	return `meshvm-syncer keeps the registry of the mesh and streams it to VMs.

Usage:
  meshvm-syncer [--kubeconfig FILE | --manifests DIR] --tls-cert-file FILE --tls-private-key-file FILE --client-ca-file FILE
  meshvm-syncer [--kubeconfig FILE] --tls-cert-file FILE --tls-private-key-file FILE --token-review
  meshvm-syncer [--kubeconfig FILE | --manifests DIR] --insecure

Flags:
` + flags.FlagUsagesWrapped(100)
}

// check turns the flags into settings.
func (r *rawFlags) check(given func(name string) bool) (settings, error) {
	s := settings{kubeconfig: r.kubeconfig, manifests: r.manifests}
	for _, name := range []string{"kubeconfig", "manifests"} {
		if given(name) && strings.TrimSpace(map[string]string{"kubeconfig": r.kubeconfig, "manifests": r.manifests}[name]) == "" {
			return settings{}, fmt.Errorf("--%s is empty: want a path", name)
		}
	}
	var err error
	if s.identity, err = r.identity.settings(given); err != nil {
		return settings{}, err
	}
	if s.mesh, err = r.mesh.name(given); err != nil {
		return settings{}, err
	}
	for _, step := range []func(*settings) error{r.checkIdentity, r.checkTranslation, r.checkTLS, r.checkHTTP, r.checkListeners, r.checkPending, r.checkBounds, r.checkGuard, r.checkLog} {
		if err := step(&s); err != nil {
			return settings{}, err
		}
	}
	if s.vip, err = r.vip.settings(given); err != nil {
		return settings{}, err
	}
	s.vipState, err = r.vipState.check(s, given)
	return s, err
}

func (r *rawFlags) checkTranslation(s *settings) error {
	exports := strings.Split(r.defaultExport, ",")
	if _, err := registry.ParseExportTo(exports, "default"); err != nil {
		return fmt.Errorf("--default-export %q: want *, ., ~, or namespaces separated by commas: %w", r.defaultExport, err)
	}
	s.translation = source.Options{ClusterDomain: r.clusterDomain, DefaultExport: exports}
	if _, err := source.NewTranslator(s.translation); err != nil {
		return fmt.Errorf("--cluster-domain %q: want a DNS name such as cluster.local: %w", r.clusterDomain, err)
	}
	s.translation.Sidecars = r.sidecar.sidecars()
	s.translation.ClusterDomain = strings.ToLower(strings.TrimSuffix(r.clusterDomain, "."))
	return nil
}

func (r *rawFlags) checkTLS(s *settings) error {
	files := []struct{ flag, path string }{
		{"--tls-cert-file", r.cert}, {"--tls-private-key-file", r.key}, {"--client-ca-file", r.clientCA},
	}
	for _, file := range files {
		switch {
		case r.insecure && file.path != "":
			return fmt.Errorf("%s and --insecure exclude each other", file.flag)
		case !r.insecure && file.path == "" && !(file.flag == "--client-ca-file" && s.identity.takesTokens()):
			return fmt.Errorf("%s is missing: want --tls-cert-file, --tls-private-key-file and --client-ca-file, or --insecure for plaintext on loopback; where tokens are taken (--token-review, --token-jwks) --client-ca-file may be left out", file.flag)
		}
	}
	if !r.insecure {
		s.tls = &server.TLSFiles{Certificate: r.cert, Key: r.key, ClientCA: r.clientCA}
	}
	return nil
}

// Values of --http-authorization.
const (
	httpOpen         = "open"
	httpByKubernetes = "kubernetes"
)

func (r *rawFlags) checkHTTP(s *settings) error {
	if r.replicas != "" && !isNamespacedName(r.replicas) {
		return fmt.Errorf("--replicas %q: want NAMESPACE/NAME of a Service", r.replicas)
	}
	s.replicas = r.replicas
	switch {
	case r.httpAuthorization == httpOpen:
		return nil
	case r.httpAuthorization != httpByKubernetes:
		return fmt.Errorf("--http-authorization %q: want %s or %s", r.httpAuthorization, httpOpen, httpByKubernetes)
	case r.insecure:
		return fmt.Errorf("--http-authorization %s and --insecure exclude each other: tokens are not sent in plaintext", httpByKubernetes)
	case s.manifests != "" && s.kubeconfig == "":
		return fmt.Errorf("--http-authorization %s with --manifests: want --kubeconfig too, for the cluster that is to be asked", httpByKubernetes)
	}
	s.httpByCluster = true
	return nil
}

func (r *rawFlags) checkListeners(s *settings) error {
	host := ""
	if r.insecure {
		host = "127.0.0.1"
	}
	s.listen = cmp.Or(r.listen, host+defaultPort)
	s.httpListen = cmp.Or(r.httpListen, host+defaultHTTPPort)
	if err := checkAddress("--listen", s.listen); err != nil {
		return err
	}
	if err := checkAddress("--http-listen", s.httpListen); err != nil {
		return err
	}
	if r.insecure && !onLoopback(s.listen) {
		return fmt.Errorf("--insecure with --listen %s: plaintext is for loopback only; want --listen 127.0.0.1:PORT or [::1]:PORT, or TLS", s.listen)
	}
	return nil
}

func checkAddress(flag, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %q: want HOST:PORT or :PORT", flag, address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s %q: port %q: want a number from 0 to 65535", flag, address, port)
	}
	if strings.ContainsAny(host, " /") {
		return fmt.Errorf("%s %q: host %q: want an address or a host name", flag, address, host)
	}
	return nil
}

func onLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (r *rawFlags) checkPending(s *settings) (err error) {
	s.translation.Pending, err = r.pending.options()
	return err
}

func (r *rawFlags) checkBounds(s *settings) error { return r.bounds.apply(&s.bounds) }

func (r *rawFlags) checkGuard(s *settings) (err error) {
	s.guard, err = r.guard.options()
	return err
}

func (r *rawFlags) checkLog(s *settings) error {
	switch r.logLevel {
	case "debug", "info", "warn", "error":
		// These four always parse.
		_ = s.logLevel.UnmarshalText([]byte(r.logLevel))
	default:
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", r.logLevel)
	}
	if r.logFormat != "text" && r.logFormat != "json" {
		return fmt.Errorf("--log-format %q: want text or json", r.logFormat)
	}
	s.logFormat = r.logFormat
	return nil
}

func (s settings) newLog(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.logLevel}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
