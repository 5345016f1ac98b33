package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// window is the least part of a secret that must not be said, in characters.
const window = 16

// secrets are what nobody must say, whole or in part, as it is or encoded.
type secrets map[string]string

// keep adds a secret by its name.
func (s secrets) keep(name, value string) {
	for _, form := range []string{value, hex.EncodeToString([]byte(value)), base64.StdEncoding.EncodeToString([]byte(value)), fmt.Sprint([]byte(value)), fmt.Sprintf("%q", value)} {
		for i := range max(0, len(form)-window+1) {
			s[form[i:i+window]] = name
		}
	}
}

// keepKey adds a file of a private key.
func (s secrets) keepKey(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		t.Fatalf("%s: got no PEM", path)
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		if !strings.HasPrefix(line, "-----") {
			s.keep(filepath.Base(path), line)
		}
	}
	s.keep(filepath.Base(path), string(block.Bytes))
}

// unsaid fails the test where a text says a secret.
func (s secrets) unsaid(t *testing.T, where, text string) {
	t.Helper()
	if text == "" {
		t.Errorf("%s: got nothing, want what could say a secret", where)
	}
	if name, found := s.find(text); found {
		t.Errorf("%s says a part of %s, want no more than its name", where, name)
	}
}

// find is the name of a secret of which a text has a part.
func (s secrets) find(text string) (name string, found bool) {
	for i := range max(0, len(text)-window+1) {
		if name, found := s[text[i:i+window]]; found {
			return name, true
		}
	}
	return "", false
}

// newToken is a token in the form of those of Kubernetes.
func newToken(t *testing.T) string {
	t.Helper()
	part := func(size int) string {
		random := make([]byte, size)
		if _, err := rand.Read(random); err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(random)
	}
	return "eyJ" + part(60) + "." + part(300) + "." + part(200)
}

// TestTheSearchFindsSecrets: the test below must be able to fail.
func TestTheSearchFindsSecrets(t *testing.T) {
	token := newToken(t)
	kept := secrets{}
	kept.keep("token", token)
	for name, text := range map[string]string{
		"as it is": token, "a part": "x" + token[40:40+window] + "x", "in hex": hex.EncodeToString([]byte(token)),
		"as bytes": fmt.Sprint([]byte(token)[7:99]), "in base64": base64.StdEncoding.EncodeToString([]byte(token)),
	} {
		t.Run(name, func(t *testing.T) {
			if _, found := kept.find(text); !found {
				t.Errorf("find(%q): got nothing, want the token", text)
			}
		})
	}
	if name, found := kept.find("level=INFO msg=serving listen=127.0.0.1:15054"); found {
		t.Errorf("find: got %s in a line of a log, want nothing", name)
	}
}

// guarded is a mesh whose secrets are kept.
type guarded struct {
	t              *testing.T
	mesh, stranger *authority
	token          string
	secrets        secrets
	folder         string
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	// Whatever gRPC can be made to log, too.
	t.Setenv("GRPC_GO_LOG_SEVERITY_LEVEL", "info")
	t.Setenv("GRPC_GO_LOG_VERBOSITY_LEVEL", "99")
	g := &guarded{t: t, mesh: newAuthority(t), stranger: newAuthority(t), token: newToken(t), secrets: secrets{}, folder: t.TempDir()}
	g.mesh.server("server")
	g.mesh.client("vm", "prod")
	g.stranger.client("vm", "prod")
	g.secrets.keep("the token", g.token)
	for _, a := range []*authority{g.mesh, g.stranger} {
		for _, name := range []string{"root-cert-key", "vm-key"} {
			g.secrets.keepKey(t, a.file(name))
		}
	}
	g.secrets.keepKey(t, g.mesh.file("server-key"))
	write(t, g.mesh.folder, "token", g.token+"\n")
	write(t, g.folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	return g
}

func (g *guarded) tokenFile() string { return filepath.Join(g.mesh.folder, "token") }

// lines are those of a VM that says all that it has.
func (g *guarded) lines(more ...string) []string {
	return append(append(g.mesh.lines("vm"), "token "+g.tokenFile()), more...)
}

// syncer starts one that logs all that it can.
func (g *guarded) syncer(format string) (p *programs.Process, address, http string) {
	g.t.Helper()
	http = programs.FreeAddress(g.t)
	p, address = g.mesh.syncer(g.folder, "server", "--log-level", "debug", "--log-format", format, "--http-listen", http)
	p.WaitFor(g.t, "serving")
	return p, address, http
}

// machine starts one that logs all that it can.
func (g *guarded) machine(t *testing.T, syncer string, lines ...string) *machine {
	t.Helper()
	m := &machine{
		t: t, address: programs.FreeAddress(t), ready: programs.FreeAddress(t), metrics: programs.FreeAddress(t),
		snapshot: filepath.Join(t.TempDir(), "registry.snapshot"), corefile: filepath.Join(t.TempDir(), "Corefile"),
	}
	m.configure([]string{syncer}, lines...)
	g.debug(t, m)
	m.boot()
	return m
}

// debug makes a machine log more than its Corefile says.
func (g *guarded) debug(t *testing.T, m *machine) {
	t.Helper()
	text, err := os.ReadFile(m.corefile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(m.corefile), filepath.Base(m.corefile), strings.Replace(string(text), "    errors\n", "    errors\n    debug\n", 1))
}

// check looks through all that a machine says, and leaves behind.
func (g *guarded) check(t *testing.T, m *machine) {
	t.Helper()
	g.secrets.unsaid(t, "CoreDNS's log", m.coredns.Output())
	for address, path := range map[string]string{m.metrics: "/metrics", m.ready: "/ready"} {
		page, _, err := m.get(address, path)
		if err != nil {
			t.Fatal(err)
		}
		g.secrets.unsaid(t, path, page)
	}
	if snapshot, err := os.ReadFile(m.snapshot); err == nil {
		g.secrets.unsaid(t, "the snapshot", string(snapshot))
	}
}

// checkSyncer looks through all that a syncer says.
func (g *guarded) checkSyncer(t *testing.T, p *programs.Process, http string) {
	t.Helper()
	g.secrets.unsaid(t, "the syncer's log", p.Output())
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/registry?name=reviews.prod.svc.cluster.local", "/debug/registry?name=", "/debug/guard", "/debug/vips"} {
		page, _, err := get("http://" + http + path)
		if err != nil {
			t.Fatal(err)
		}
		g.secrets.unsaid(t, path, page)
	}
}

// TestSecretsAreNeverSaid: neither program says a token or a key, or sixteen characters of one, in logs, pages or
// errors, at any level and whatever goes wrong with them.
func TestSecretsAreNeverSaid(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run("followed, in "+format, func(t *testing.T) {
			g := newGuarded(t)
			syncer, address, http := g.syncer(format)
			m := g.machine(t, address, g.lines("namespace prod")...)
			m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
			g.check(t, m)
			g.checkSyncer(t, syncer, http)
			m.coredns.Stop(t, syscall.SIGTERM)
			g.secrets.unsaid(t, "the log after the end", m.coredns.Output())
			g.secrets.unsaid(t, "the snapshot", func() string { content, _ := os.ReadFile(m.snapshot); return string(content) }())
		})
	}

	t.Run("a syncer that is not trusted", func(t *testing.T) {
		g := newGuarded(t)
		syncer, address, http := g.syncer("text")
		m := g.machine(t, address, fmt.Sprintf("tls %s %s %s", g.mesh.file("vm"), g.mesh.file("vm-key"), g.stranger.file("root-cert")), "token "+g.tokenFile())
		m.coredns.WaitFor(t, "unknown authority")
		g.check(t, m)
		g.checkSyncer(t, syncer, http)
	})

	t.Run("a VM that is not trusted", func(t *testing.T) {
		g := newGuarded(t)
		syncer, address, http := g.syncer("text")
		m := g.machine(t, address, fmt.Sprintf("tls %s %s %s", g.stranger.file("vm"), g.stranger.file("vm-key"), g.mesh.file("root-cert")), "token "+g.tokenFile())
		m.coredns.WaitFor(t, "cause=tls")
		g.check(t, m)
		g.checkSyncer(t, syncer, http)
	})

	t.Run("a VM of another namespace", func(t *testing.T) {
		g := newGuarded(t)
		syncer, address, http := g.syncer("text")
		m := g.machine(t, address, g.lines("namespace dev")...)
		m.coredns.WaitFor(t, "cannot follow syncer")
		syncer.WaitFor(t, "watch refused")
		g.check(t, m)
		g.checkSyncer(t, syncer, http)
	})

	t.Run("a syncer that speaks another protocol", func(t *testing.T) {
		g := newGuarded(t)
		_, _, http := g.syncer("text")
		m := g.machine(t, http, g.lines()...)
		m.coredns.WaitFor(t, "cannot follow syncer")
		g.check(t, m)
	})

	t.Run("files damaged while they are used", func(t *testing.T) {
		g := newGuarded(t)
		syncer, address, http := g.syncer("text")
		m := g.machine(t, address, g.lines("namespace prod")...)
		m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
		key, err := os.ReadFile(g.mesh.file("vm-key"))
		if err != nil {
			t.Fatal(err)
		}
		serverKey, err := os.ReadFile(g.mesh.file("server-key"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, g.mesh.folder, "token", g.token+" and more\n")
		write(t, g.mesh.folder, "vm-key.pem", string(key[:len(key)/2]))
		write(t, g.mesh.folder, "server-key.pem", "x"+string(serverKey)[30:])
		// Whoever connects has the syncer read its files again.
		other := g.machine(t, address, "tls "+g.mesh.file("root-cert"))
		other.coredns.WaitFor(t, "cause=tls")
		g.checkSyncer(t, syncer, http)
		syncer.Stop(t, syscall.SIGTERM)
		m.coredns.WaitFor(t, "TLS files not usable")
		m.coredns.WaitFor(t, "holds more than a token")
		g.check(t, m)
		g.secrets.unsaid(t, "the syncer's log", syncer.Output())
	})
}

// TestRefusedSettingsSayNoSecrets: what a program does not start with, it names without its content.
func TestRefusedSettingsSayNoSecrets(t *testing.T) {
	g := newGuarded(t)
	folder := t.TempDir()
	place := func(name, content string) string {
		write(t, folder, name, content)
		return filepath.Join(folder, name)
	}
	read := func(path string) string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	key, root := read(g.mesh.file("vm-key")), g.mesh.file("root-cert")
	half, scrambled := place("half.pem", key[:len(key)/2]), place("scrambled.pem", strings.Replace(key, "M", "!", 2))
	bare := place("bare.pem", strings.Join(strings.Split(key, "\n")[1:4], ""))
	cert := g.mesh.file("vm")

	corefiles := map[string][]string{
		"half a key":                  {fmt.Sprintf("tls %s %s %s", cert, half, root)},
		"a key with errors":           {fmt.Sprintf("tls %s %s %s", cert, scrambled, root)},
		"a key without its lines":     {fmt.Sprintf("tls %s %s %s", cert, bare, root)},
		"another's key":               {fmt.Sprintf("tls %s %s %s", cert, g.stranger.file("vm-key"), root)},
		"key and certificate swapped": {fmt.Sprintf("tls %s %s %s", g.mesh.file("vm-key"), cert, root)},
		"a key as authority":          {fmt.Sprintf("tls %s %s %s", cert, g.mesh.file("vm-key"), g.mesh.file("vm-key"))},
		"a token without end":         {"tls " + root, "token " + place("long", strings.Repeat(g.token, 100))},
		"a token in place of a file":  {"tls " + root, "token " + g.token},
	}
	for name, lines := range corefiles {
		t.Run("coredns: "+name, func(t *testing.T) {
			m := &machine{t: t, address: programs.FreeAddress(t), ready: programs.FreeAddress(t), metrics: programs.FreeAddress(t), snapshot: "off", corefile: filepath.Join(t.TempDir(), "Corefile")}
			m.configure([]string{"127.0.0.1:1"}, lines...)
			g.debug(t, m)
			p := programs.Start(t, programs.CoreDNS, "-conf", m.corefile)
			if code := p.Wait(t); code == 0 {
				t.Errorf("exit: got 0, want a failure; it said %s", p.Output())
			}
			g.secrets.unsaid(t, "what it says", p.Output())
		})
	}

	kubeconfig := func(format string) string {
		return fmt.Sprintf(format, g.token)
	}
	syncers := map[string][]string{
		"half a key":                  {"--manifests", g.folder, "--tls-cert-file", g.mesh.file("server"), "--tls-private-key-file", half, "--client-ca-file", root},
		"a key with errors":           {"--manifests", g.folder, "--tls-cert-file", g.mesh.file("server"), "--tls-private-key-file", scrambled, "--client-ca-file", root},
		"key and certificate swapped": {"--manifests", g.folder, "--tls-cert-file", g.mesh.file("server-key"), "--tls-private-key-file", g.mesh.file("server"), "--client-ca-file", root},
		"a key as authority":          {"--manifests", g.folder, "--tls-cert-file", g.mesh.file("server"), "--tls-private-key-file", g.mesh.file("server-key"), "--client-ca-file", g.mesh.file("server-key")},
		"a kubeconfig cut off": {"--insecure", "--kubeconfig", place("cut", kubeconfig(`apiVersion: v1
kind: Config
users: [{name: a, user: {token: "%s`))},
		"a kubeconfig of another kind": {"--insecure", "--kubeconfig", place("kind", kubeconfig(`apiVersion: v1
kind: Config
users: {name: a, user: {token: "%s"}}
`))},
		"a kubeconfig that is a token": {"--insecure", "--kubeconfig", place("token", g.token)},
	}
	for name, flags := range syncers {
		t.Run("meshvm-syncer: "+name, func(t *testing.T) {
			p := programs.Start(t, programs.Syncer, append(flags, "--listen", programs.FreeAddress(t), "--http-listen", programs.FreeAddress(t), "--log-level", "debug")...)
			if code := p.Wait(t); code == 0 {
				t.Errorf("exit: got 0, want a failure; it said %s", p.Output())
			}
			g.secrets.unsaid(t, "what it says", p.Output())
		})
	}
}

// TestTokensThatAreTakenAreNeverSaid: the same where a syncer looks at tokens, good ones and all others, asks the API
// server of them, and has credentials of its own for that.
func TestTokensThatAreTakenAreNeverSaid(t *testing.T) {
	plane := controlplane.Start(t)
	g := newGuarded(t)
	kubeconfig := plane.Kubeconfig()
	content, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ": "); found && (name == "token" || name == "client-key-data") && len(value) >= window {
			g.secrets.keep("the kubeconfig's "+name, value)
		}
	}
	namespace := plane.Namespace(t)
	sign := func(edit func(*controlplane.Token)) string {
		token := controlplane.Token{Namespace: namespace, ServiceAccount: "vm", Audience: []string{"meshvm"}, Expires: time.Now().Add(time.Hour)}
		edit(&token)
		signed, err := plane.SignToken(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	good := sign(func(*controlplane.Token) {})
	tokens := map[string]string{
		"good":                good,
		"expired":             sign(func(token *controlplane.Token) { token.Expires = time.Now().Add(-time.Hour) }),
		"of another audience": sign(func(token *controlplane.Token) { token.Audience = []string{"vault"} }),
		"of another issuer":   sign(func(token *controlplane.Token) { token.Issuer = "https://issuer.example" }),
		"of an unknown key":   sign(func(token *controlplane.Token) { token.KeyID = "unknown" }),
		"altered":             good[:len(good)-20] + strings.Repeat("A", 20),
		"cut off":             good[:len(good)/2],
		"no token":            g.token,
	}
	header, _, _ := strings.Cut(good, ".")
	for name, token := range tokens {
		// What says how a token is signed is the same in all of them, and no secret.
		g.secrets.keep("the token that is "+name, strings.TrimPrefix(token, header+"."))
	}
	for what, flags := range map[string][]string{
		"reviewed":         {"--token-review", "--identity-recheck", "1s"},
		"verified offline": {"--token-jwks", "cluster", "--authorization", "identity"},
	} {
		t.Run(what, func(t *testing.T) {
			http := programs.FreeAddress(t)
			syncer, address := g.mesh.syncer(g.folder, "server", append(flags, "--kubeconfig", kubeconfig, "--log-level", "debug", "--http-listen", http)...)
			syncer.WaitFor(t, "serving")
			for name, token := range tokens {
				t.Run(name, func(t *testing.T) {
					file := filepath.Join(t.TempDir(), "token")
					write(t, filepath.Dir(file), "token", token)
					m := g.machine(t, address, "tls "+g.mesh.file("root-cert"), "token "+file)
					if name == "good" && what == "verified offline" {
						m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
					} else {
						m.coredns.WaitFor(t, "cannot follow syncer")
					}
					g.check(t, m)
				})
			}
			g.checkSyncer(t, syncer, http)
		})
	}
}
