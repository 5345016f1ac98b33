package jwks

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/test/controlplane"
)

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	first, second := newKey(t), newKey(t)
	path := filepath.Join(t.TempDir(), "jwks.json")
	clock := &clock{}
	v := newVerifier(t, Config{Source: File(path), Issuer: ours, Now: clock.now})
	if err := v.Load(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no such file: got %v, want an error that names it", err)
	}
	clock.forward(fetchInterval)
	write(t, path, keySet(t, public("a", first.Public())))
	old, young := sign(t, jose.ES256, first), sign(t, jose.ES256, second, named("b"))
	if _, err := v.Authenticate(t.Context(), old); err != nil {
		t.Errorf("the first key: got %v, want nil", err)
	}
	write(t, path, []byte(`{"keys":`))
	if err := v.Load(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("half a file: got %v, want an error that names it", err)
	}
	if _, err := v.Authenticate(t.Context(), old); err != nil {
		t.Errorf("the first key after half a file: got %v, want nil", err)
	}
	write(t, path, keySet(t, public("b", second.Public())))
	if err := v.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Authenticate(t.Context(), young); err != nil {
		t.Errorf("the second key: got %v, want nil", err)
	}
	_, err := v.Authenticate(t.Context(), old)
	wantRefusal(t, err, identity.ReasonUntrusted, old)
	write(t, path, make([]byte, maxDocument+1))
	if err := v.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file too large: got %v, want an error that says so", err)
	}
}

// web is an issuer on the web.
type web struct {
	*httptest.Server
	discovery string // with %s for its address
	keys      []byte
	status    int
}

func newWeb(t *testing.T) *web {
	w := &web{discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`, status: http.StatusOK}
	routes := http.NewServeMux()
	routes.HandleFunc("GET "+discoveryPath, func(answer http.ResponseWriter, _ *http.Request) {
		answer.WriteHeader(w.status)
		fmt.Fprintf(answer, w.discovery, w.URL)
	})
	routes.HandleFunc("GET /keys", func(answer http.ResponseWriter, _ *http.Request) {
		if _, err := answer.Write(w.keys); err != nil {
			t.Logf("send the keys: %v", err)
		}
	})
	routes.HandleFunc("GET /moved", func(answer http.ResponseWriter, request *http.Request) {
		http.Redirect(answer, request, "/keys", http.StatusFound)
	})
	routes.HandleFunc("GET /plain", func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("Location", "http://"+request.Host+"/keys")
		answer.WriteHeader(http.StatusFound)
	})
	routes.HandleFunc("GET /loop", func(answer http.ResponseWriter, request *http.Request) {
		http.Redirect(answer, request, "/loop", http.StatusFound)
	})
	w.Server = httptest.NewTLSServer(routes)
	t.Cleanup(w.Close)
	return w
}

func TestIssuerOnTheWeb(t *testing.T) {
	key := newKey(t)
	keys := keySet(t, public("a", key.Public()))
	for name, test := range map[string]struct {
		change func(*web)
		want   string // empty: it is good
	}{
		"as it should be":         {func(*web) {}, ""},
		"keys that have moved":    {func(w *web) { w.discovery = `{"issuer":"%[1]s","jwks_uri":"%[1]s/moved"}` }, ""},
		"another issuer":          {func(w *web) { w.discovery = `{"issuer":"%[1]s/other","jwks_uri":"%[1]s/keys"}` }, "they are of issuer"},
		"no issuer":               {func(w *web) { w.discovery = `{"jwks_uri":"%[1]s/keys"}` }, "names no issuer"},
		"no keys":                 {func(w *web) { w.discovery = `{"issuer":"%[1]s"}` }, `jwks_uri ""`},
		"keys in plaintext":       {func(w *web) { w.discovery = `{"issuer":"%[1]s","jwks_uri":"http://127.0.0.1/keys"}` }, "want https"},
		"keys in a file":          {func(w *web) { w.discovery = `{"issuer":"%[1]s","jwks_uri":"file:///etc/passwd"}` }, "want https"},
		"keys moved to plaintext": {func(w *web) { w.discovery = `{"issuer":"%[1]s","jwks_uri":"%[1]s/plain"}` }, "want https"},
		"keys that move and move": {func(w *web) { w.discovery = `{"issuer":"%[1]s","jwks_uri":"%[1]s/loop"}` }, "more than 3 redirects"},
		"keys that are nowhere":   {func(w *web) { w.discovery = `{"issuer":"%[1]s","jwks_uri":"%[1]s/nowhere"}` }, "404 Not Found"},
		"an error":                {func(w *web) { w.status = http.StatusInternalServerError }, "500 Internal Server Error"},
		"no JSON":                 {func(w *web) { w.discovery = `<html>%[1]s` }, "read the discovery document"},
		"keys without end":        {func(w *web) { w.keys = make([]byte, maxDocument+1) }, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			w.keys = keys
			test.change(w)
			source, err := Issuer(w.URL, w.Client())
			if err != nil {
				t.Fatal(err)
			}
			v := newVerifier(t, Config{Source: source, Issuer: w.URL})
			err = v.Load(t.Context())
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want an error with %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			shown := sign(t, jose.ES256, key, func(token *controlplane.Token) { token.Issuer = w.URL })
			if _, err := v.Authenticate(t.Context(), shown); err != nil {
				t.Errorf("got %v, want nil", err)
			}
		})
	}
}

func TestAnIssuerIsVerified(t *testing.T) {
	w := newWeb(t)
	w.Config.ErrorLog = log.New(io.Discard, "", 0)
	source, err := Issuer(w.URL, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := newVerifier(t, Config{Source: source, Issuer: w.URL}).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of an authority that nobody trusts: got %v, want an error that says so", err)
	}
}

func TestURLs(t *testing.T) {
	for address, good := range map[string]bool{
		"https://issuer.example":          true,
		"https://issuer.example:8443/a/b": true,
		"http://issuer.example":           false,
		"https://":                        false,
		"https://user:secret@example.com": false,
		"https://issuer.example?x=1":      false,
		"https://issuer.example#x":        false,
		"issuer.example":                  false,
		"https://a b":                     false,
	} {
		if _, err := Issuer(address, http.DefaultClient); (err == nil) != good {
			t.Errorf("%s: got %v, want good: %t", address, err, good)
		}
	}
}
