package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/identity"
)

func reasonOf(err error) identity.Reason {
	if refused, isRefusal := errors.AsType[*identity.Refusal](err); isRefusal {
		return refused.Reason
	}
	return ""
}

func TestFromCertificate(t *testing.T) {
	const account = "system:serviceaccount:dev:vm"
	tests := map[string]struct {
		uris      []string
		namespace string
		user      string
		refused   identity.Reason
	}{
		"Istio's form":                 {uris: []string{"spiffe://cluster.local/ns/dev/sa/vm"}, namespace: "dev", user: account},
		"an account's name with dots":  {uris: []string{"spiffe://td/ns/dev/sa/vm.v1"}, namespace: "dev", user: account + ".v1"},
		"no URI":                       {},
		"a URI that is no SPIFFE ID":   {uris: []string{"https://example.com/ns/dev/sa/x"}},
		"two SPIFFE IDs":               {uris: []string{"spiffe://a/ns/dev/sa/vm", "spiffe://a/ns/prod/sa/vm"}, refused: identity.ReasonMalformed},
		"a SPIFFE ID and another URI":  {uris: []string{"spiffe://a/ns/dev/sa/vm", "https://example.com"}, refused: identity.ReasonMalformed},
		"another form":                 {uris: []string{"spiffe://a/workload/vm"}, refused: identity.ReasonMalformed},
		"without a namespace":          {uris: []string{"spiffe://a/ns//sa/vm"}, refused: identity.ReasonMalformed},
		"a namespace that cannot be":   {uris: []string{"spiffe://a/ns/a.b/sa/vm"}, refused: identity.ReasonMalformed},
		"a namespace in capitals":      {uris: []string{"spiffe://a/ns/Dev/sa/vm"}, refused: identity.ReasonMalformed},
		"without an account":           {uris: []string{"spiffe://a/ns/dev/sa/"}, refused: identity.ReasonMalformed},
		"an account that cannot be":    {uris: []string{"spiffe://a/ns/dev/sa/system:admin"}, refused: identity.ReasonMalformed},
		"without a trust domain":       {uris: []string{"spiffe:///ns/dev/sa/vm"}, refused: identity.ReasonMalformed},
		"with more":                    {uris: []string{"spiffe://a/ns/dev/sa/vm/x"}, refused: identity.ReasonMalformed},
		"with a query":                 {uris: []string{"spiffe://a/ns/dev/sa/vm?x=y"}, refused: identity.ReasonMalformed},
		"with a user":                  {uris: []string{"spiffe://u@a/ns/dev/sa/vm"}, refused: identity.ReasonMalformed},
		"with an escape":               {uris: []string{"spiffe://a/ns/dev/sa/v%6d"}, refused: identity.ReasonMalformed},
		"with an escape for a slash":   {uris: []string{"spiffe://a/ns%2fdev/sa/vm"}, refused: identity.ReasonMalformed},
		"with a control character":     {uris: []string{"spiffe://a/ns/dev/sa/vm%0a"}, refused: identity.ReasonMalformed},
		"with a fragment":              {uris: []string{"spiffe://a/ns/dev/sa/vm#x"}, refused: identity.ReasonMalformed},
		"an account's name too long":   {uris: []string{"spiffe://a/ns/dev/sa/" + strings.Repeat("x", 254)}, refused: identity.ReasonMalformed},
		"a namespace's name too long":  {uris: []string{"spiffe://a/ns/" + strings.Repeat("x", 64) + "/sa/vm"}, refused: identity.ReasonMalformed},
		"the longest account's name":   {uris: []string{"spiffe://a/ns/dev/sa/vm" + strings.Repeat("x", 251)}, namespace: "dev", user: account + strings.Repeat("x", 251)},
		"the longest namespace's name": {uris: []string{"spiffe://a/ns/" + strings.Repeat("x", 63) + "/sa/vm"}, namespace: strings.Repeat("x", 63), user: "system:serviceaccount:" + strings.Repeat("x", 63) + ":vm"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			certificate := &x509.Certificate{NotAfter: time.Unix(100, 0)}
			for _, text := range test.uris {
				uri, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				certificate.URIs = append(certificate.URIs, uri)
			}
			got, err := identity.FromCertificate(tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}})
			if reasonOf(err) != test.refused || err == nil != (test.refused == "") {
				t.Fatalf("FromCertificate: got %v, want reason %q", err, test.refused)
			}
			if got.Namespace != test.namespace || got.User.Name != test.user {
				t.Errorf("FromCertificate: got namespace %q and user %q, want %q and %q", got.Namespace, got.User.Name, test.namespace, test.user)
			}
			if err == nil && (got.Name == "" || !got.Expires.Equal(certificate.NotAfter)) {
				t.Errorf("FromCertificate: got name %q until %s, want some name until %s", got.Name, got.Expires, certificate.NotAfter)
			}
		})
	}
}

func TestTheFirstCertificateOfAChainToEndEndsIt(t *testing.T) {
	at := func(second int64) *x509.Certificate { return &x509.Certificate{NotAfter: time.Unix(second, 0)} }
	for name, test := range map[string]struct {
		chains [][]*x509.Certificate
		want   int64
	}{
		"no chain":                     {nil, 100},
		"the leaf ends first":          {[][]*x509.Certificate{{at(100), at(200), at(300)}}, 100},
		"the authority ends first":     {[][]*x509.Certificate{{at(100), at(200), at(50)}}, 50},
		"one chain outlives the other": {[][]*x509.Certificate{{at(100), at(50)}, {at(100), at(80)}}, 80},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := identity.FromCertificate(tls.ConnectionState{PeerCertificates: []*x509.Certificate{at(100)}, VerifiedChains: test.chains})
			if err != nil || got.Expires.Unix() != test.want {
				t.Errorf("Expires: got %d, %v; want %d", got.Expires.Unix(), err, test.want)
			}
		})
	}
}

// sign makes a certificate of an authority, itself where there is none.
func sign(t *testing.T, usage x509.ExtKeyUsage, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1000, 0),
		IsCA: parent == nil, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, signer = template, key
	} else {
		template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func TestVerify(t *testing.T) {
	authority, key := sign(t, 0, nil, nil)
	other, _ := sign(t, 0, nil, nil)
	client, _ := sign(t, x509.ExtKeyUsageClientAuth, authority, key)
	server, _ := sign(t, x509.ExtKeyUsageServerAuth, authority, key)
	for name, test := range map[string]struct {
		certificate, trusted *x509.Certificate
		at                   int64
		want                 identity.Reason
	}{
		"trusted":                    {client, authority, 500, ""},
		"its authority is taken out": {client, other, 500, identity.ReasonRevoked},
		"its time is over":           {client, authority, 2000, identity.ReasonExpired},
		"it is a server's":           {server, authority, 500, identity.ReasonRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			pool := x509.NewCertPool()
			pool.AddCert(test.trusted)
			err := identity.Verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{test.certificate}}, pool, time.Unix(test.at, 0))
			if reasonOf(err) != test.want || err == nil != (test.want == "") {
				t.Errorf("Verify: got %v, want reason %q", err, test.want)
			}
		})
	}
}
