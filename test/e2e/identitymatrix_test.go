package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// identityMesh is a real API server, and a syncer for each way in which VMs are known, all with RBAC. They look again every second.
type identityMesh struct {
	t                *testing.T
	plane            *controlplane.ControlPlane
	clients          kubernetes.Interface
	namespace, other string
	// host is a name that only the namespace sees, and address what it resolves to.
	host, address string

	syncers map[string]*programs.Process // by method
	listen  map[string]string
	metrics map[string]string

	trusted, doomed *authority // of VMs' certificates: one stays, one is taken out of the bundle
	bundle          string
	keys            string // file of the keys that verify tokens offline
	key, doomedKey  *ecdsa.PrivateKey
	folder          string
}

const (
	byCertificate = "certificate"
	byReview      = "token review"
	byKeys        = "token, offline"
)

const doomedKeyID = "doomed"

func newIdentityMesh(t *testing.T) *identityMesh {
	t.Helper()
	m := &identityMesh{
		t: t, plane: controlplane.Start(t), folder: t.TempDir(), trusted: newAuthority(t), doomed: newAuthority(t),
		syncers: map[string]*programs.Process{}, listen: map[string]string{}, metrics: map[string]string{},
	}
	var err error
	if m.clients, err = kubernetes.NewForConfig(m.plane.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	m.namespace, m.other = m.plane.Namespace(t), m.plane.Namespace(t)
	for what, do := range map[string]func(context.Context) error{
		"grant":              m.plane.GrantSyncerRole,
		"grant reviews":      m.plane.GrantSyncerIdentityRole,
		"create the role":    m.plane.CreateWatcherRole,
		"say a trust domain": m.sayTrustDomain,
	} {
		if err := do(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	service, err := m.clients.CoreV1().Services(m.namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "private", Annotations: map[string]string{"networking.istio.io/exportTo": "."}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.address = service.Spec.ClusterIP
	m.host = service.Name + "." + m.namespace + ".svc.cluster.local."

	m.bundle, m.keys = filepath.Join(m.folder, "bundle.pem"), filepath.Join(m.folder, "keys.json")
	m.trust(m.trusted, m.doomed)
	if m.key, err = m.plane.ServiceAccountKey(); err != nil {
		t.Fatal(err)
	}
	if m.doomedKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	m.publish(true)
	m.trusted.server("server")
	m.start(byCertificate, "--client-ca-file", m.bundle, "--istio-mesh-config")
	m.start(byReview, "--token-review")
	m.start(byKeys, "--token-jwks", m.keys, "--token-issuer", m.plane.ServiceAccountIssuer())
	return m
}

// sayTrustDomain has the mesh be of one trust domain, and lets the syncer read so.
func (m *identityMesh) sayTrustDomain(ctx context.Context) error {
	const namespace = "istio-system"
	if _, err := m.clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := m.clients.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "istio"}, Data: map[string]string{"mesh": "trustDomain: cluster.local\n"},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	name := metav1.ObjectMeta{Name: "mesh-config"}
	if _, err = m.clients.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: name, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"istio"}, Verbs: []string{"list", "watch"},
	}}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = m.clients.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name.Name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: controlplane.SyncerUser}},
	}, metav1.CreateOptions{})
	return err
}

// start starts a syncer that knows VMs by a method.
func (m *identityMesh) start(method string, flags ...string) {
	m.t.Helper()
	kubeconfig, err := m.plane.KubeconfigFor(controlplane.SyncerUser)
	if err != nil {
		m.t.Fatal(err)
	}
	m.listen[method], m.metrics[method] = programs.FreeAddress(m.t), programs.FreeAddress(m.t)
	m.syncers[method] = programs.Start(m.t, programs.Syncer, append([]string{
		"--kubeconfig", kubeconfig, "--authorization", "rbac", "--identity-recheck", "1s",
		"--listen", m.listen[method], "--http-listen", m.metrics[method],
		"--tls-cert-file", m.trusted.file("server"), "--tls-private-key-file", m.trusted.file("server-key"),
	}, flags...)...)
}

// trust has the syncer trust these authorities and no other.
func (m *identityMesh) trust(authorities ...*authority) {
	m.t.Helper()
	var bundle strings.Builder
	for _, a := range authorities {
		certificate, err := os.ReadFile(a.file("root-cert"))
		if err != nil {
			m.t.Fatal(err)
		}
		bundle.Write(certificate)
	}
	write(m.t, m.folder, "bundle.pem", bundle.String())
}

// publish has tokens be good that the cluster signed and, for a time, those of another key.
func (m *identityMesh) publish(doomed bool) {
	m.t.Helper()
	token, err := m.plane.ServiceAccountToken(m.t.Context(), m.namespace, "any", "meshvm")
	if err != nil {
		m.t.Fatal(err)
	}
	parsed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		m.t.Fatal(err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: m.key.Public(), KeyID: parsed.Signatures[0].Header.KeyID, Algorithm: string(jose.ES256), Use: "sig"}}}
	if doomed {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: m.doomedKey.Public(), KeyID: doomedKeyID, Algorithm: string(jose.ES256), Use: "sig"})
	}
	encoded, err := json.Marshal(set)
	if err != nil {
		m.t.Fatal(err)
	}
	write(m.t, m.folder, "keys.json", string(encoded))
}

// credential is what a VM shows.
type credential struct {
	edit   func(*x509.Certificate) // of a certificate
	token  controlplane.Token      // of a token
	doomed bool                    // by an authority or a key that is taken back later
}

// vm is a machine of a namespace whose account may watch, with a credential of its own.
func (m *identityMesh) vm(t *testing.T, method, account string, shown credential, lines ...string) *machine {
	t.Helper()
	if err := m.plane.AllowWatch(t.Context(), m.namespace, account); err != nil {
		t.Fatal(err)
	}
	if method == byCertificate {
		a := m.trusted
		if shown.doomed {
			a = m.doomed
		}
		template := &x509.Certificate{
			URIs:        []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/" + m.namespace + "/sa/" + account}},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		if shown.edit != nil {
			shown.edit(template)
		}
		a.issueAsIs(account, template)
		lines = append(lines, fmt.Sprintf("tls %s %s %s", a.file(account), a.file(account+"-key"), m.trusted.file("root-cert")))
	} else {
		write(t, m.folder, account, m.sign(t, account, shown))
		lines = append(lines, "tls "+m.trusted.file("root-cert"), "token "+filepath.Join(m.folder, account))
	}
	return newMachine(t, []string{m.listen[method]}, lines...)
}

// sign is a token in the API server's form.
func (m *identityMesh) sign(t *testing.T, account string, shown credential) string {
	t.Helper()
	said := shown.token
	said.Namespace, said.ServiceAccount = m.namespace, account
	if said.Audience == nil {
		said.Audience = []string{"meshvm"}
	}
	if said.Expires.IsZero() {
		said.Expires = time.Now().Add(time.Hour)
	}
	said.NotBefore = said.Expires.Add(-2 * time.Hour)
	if !shown.doomed {
		token, err := m.plane.SignToken(t.Context(), said)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	said.Issuer, said.KeyID, said.UID = m.plane.ServiceAccountIssuer(), doomedKeyID, "0"
	token, err := said.Sign(jose.ES256, m.doomedKey)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestIdentities is each way in which a VM is known, and all that can be wrong with it, before it comes and while it watches. A VM
// that is refused answers what it has; its log and the syncer's say why, and both count it.
func TestIdentities(t *testing.T) {
	m := newIdentityMesh(t)
	revokeAccount := func(account string) error {
		return m.plane.DeleteServiceAccount(m.t.Context(), m.namespace, account)
	}
	tests := []struct {
		method, name string
		shown        credential
		lines        []string
		happens      func(account string) error // while the VM watches
		cause        string                     // on the VM; empty: it watches
		said         string                     // in the VM's log
		reason       string                     // in the syncer's log; empty: the handshake has failed, and there is none
	}{
		{method: byCertificate, name: "valid"},
		{method: byCertificate, name: "expired", cause: "tls", said: "tls: expired certificate",
			shown: credential{edit: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }}},
		{method: byCertificate, name: "wrong audience: for servers", cause: "tls", said: "tls: bad certificate",
			shown: credential{edit: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }}},
		{method: byCertificate, name: "wrong trust domain", cause: "permission_denied", said: `is of trust domain \"elsewhere\"`, reason: "trust_domain",
			shown: credential{edit: func(c *x509.Certificate) { c.URIs[0].Host = "elsewhere" }}},
		{method: byCertificate, name: "wrong namespace claim", lines: []string{"namespace " + m.other}, cause: "permission_denied", said: "correct `namespace` in the Corefile", reason: "namespace"},
		{method: byCertificate, name: "revoked: its authority", shown: credential{doomed: true}, cause: "unauthenticated", said: "not trusted any more", reason: "revoked",
			happens: func(string) error { m.trust(m.trusted); return nil }},
		{method: byCertificate, name: "RBAC removed", cause: "permission_denied", said: "kubectl create rolebinding", reason: "forbidden",
			happens: func(account string) error { return m.plane.ForbidWatch(m.t.Context(), m.namespace, account) }},

		{method: byReview, name: "valid"},
		{method: byReview, name: "expired", shown: credential{token: controlplane.Token{Expires: time.Now().Add(-time.Minute)}}, cause: "unauthenticated", said: "the token expired at", reason: "expired"},
		{method: byReview, name: "wrong audience", shown: credential{token: controlplane.Token{Audience: []string{"elsewhere"}}}, cause: "unauthenticated", said: "Unauthenticated: the token is not for audience", reason: "audience"},
		{method: byReview, name: "wrong trust domain: another issuer", shown: credential{token: controlplane.Token{Issuer: "https://elsewhere.example"}}, cause: "unauthenticated", said: "has not issued the token", reason: "untrusted"},
		{method: byReview, name: "wrong namespace claim", lines: []string{"namespace " + m.other}, cause: "permission_denied", said: "correct `namespace` in the Corefile", reason: "namespace"},
		{method: byReview, name: "revoked: its account", happens: revokeAccount, cause: "unauthenticated", said: "has taken the token back", reason: "revoked"},
		{method: byReview, name: "RBAC removed", cause: "permission_denied", said: "kubectl create rolebinding", reason: "forbidden",
			happens: func(account string) error { return m.plane.ForbidWatch(m.t.Context(), m.namespace, account) }},

		{method: byKeys, name: "valid"},
		{method: byKeys, name: "expired", shown: credential{token: controlplane.Token{Expires: time.Now().Add(-time.Minute)}}, cause: "unauthenticated", said: "the token expired at", reason: "expired"},
		{method: byKeys, name: "wrong audience", shown: credential{token: controlplane.Token{Audience: []string{"elsewhere"}}}, cause: "unauthenticated", said: "Unauthenticated: the token is not for audience", reason: "audience"},
		{method: byKeys, name: "wrong trust domain: another issuer", shown: credential{token: controlplane.Token{Issuer: "https://elsewhere.example"}}, cause: "unauthenticated", said: "Unauthenticated: the token is of an issuer", reason: "untrusted"},
		{method: byKeys, name: "wrong namespace claim", lines: []string{"namespace " + m.other}, cause: "permission_denied", said: "correct `namespace` in the Corefile", reason: "namespace"},
		{method: byKeys, name: "revoked: its key", shown: credential{doomed: true}, cause: "unauthenticated", said: "Unauthenticated: no key of the issuer has signed the token", reason: "untrusted",
			happens: func(string) error { m.publish(false); return nil }},
		{method: byKeys, name: "RBAC removed", cause: "permission_denied", said: "kubectl create rolebinding", reason: "forbidden",
			happens: func(account string) error { return m.plane.ForbidWatch(m.t.Context(), m.namespace, account) }},
	}
	rows := make([]string, len(tests))
	t.Run("matrix", func(t *testing.T) {
		for i, test := range tests {
			t.Run(test.method+", "+test.name, func(t *testing.T) {
				t.Parallel()
				account := fmt.Sprintf("vm-%d", i)
				vm := m.vm(t, test.method, account, test.shown, test.lines...)
				watches := test.cause == "" || test.happens != nil
				if watches {
					vm.answers(m.host, dns.TypeA, m.address)
				}
				if test.happens != nil {
					if err := test.happens(account); err != nil {
						t.Fatal(err)
					}
				}
				row := "answers"
				if test.cause != "" {
					vm.coredns.WaitFor(t, test.said)
					eventually(t, "the VM counts it", func() error {
						now, err := samplesOf(vm.metrics)
						if err == nil && now.the("coredns_meshvm_disconnects_total", fmt.Sprintf("cause=%q", test.cause)) < 1 {
							err = fmt.Errorf("got %v, want the cause %s", now.the("coredns_meshvm_disconnects_total"), test.cause)
						}
						return err
					})
					row = lineWith(vm.coredns.Output(), test.said)
				}
				if test.reason != "" {
					m.sayWhy(t, test.method, account, test.reason)
				}
				want := m.address
				if !watches {
					want = "SERVFAIL"
				}
				vm.answersNow(m.host, dns.TypeA, want)
				rows[i] = fmt.Sprintf("%-15s | %-36s | %-17s | %-9s | %s", test.method, test.name, test.cause, want, row)
			})
		}
	})
	t.Logf("what VMs see:\n%s", strings.Join(rows, "\n"))
}

// sayWhy waits until the syncer's log names an account and why it was refused.
func (m *identityMesh) sayWhy(t *testing.T, method, account, reason string) {
	t.Helper()
	eventually(t, "the syncer says why", func() error {
		for line := range strings.Lines(m.syncers[method].Output()) {
			// Who shows a token that is not good is known by its address only.
			if strings.Contains(line, "reason="+reason+" ") && (strings.Contains(line, m.namespace+":"+account+" ") || strings.Contains(line, "/sa/"+account+" ") || strings.Contains(line, `identity="" `)) {
				return nil
			}
		}
		return fmt.Errorf("no line with reason=%s", reason)
	})
}

// lineWith is the first line of a text that holds what was said, cut for people.
func lineWith(text, said string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, said) {
			return strings.TrimSpace(line[:min(len(line), 320)])
		}
	}
	return ""
}
