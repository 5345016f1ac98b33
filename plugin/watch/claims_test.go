package watch

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// newToken is a JWT of a ServiceAccount that nobody has signed.
func newToken(tb testing.TB, issued, expires time.Time) string {
	tb.Helper()
	payload, err := json.Marshal(map[string]any{
		"sub": "system:serviceaccount:prod:billing", "iat": issued.Unix(), "exp": expires.Unix(), "aud": []string{"meshvm"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return jwt(string(payload))
}

func jwt(payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode([]byte(payload)) + "." + encode([]byte("signature"))
}

func TestClaims(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	tests := []struct {
		name, token string
		want        tokenClaims
	}{
		{"of a ServiceAccount", jwt(`{"sub":"system:serviceaccount:prod:billing","iat":1000,"exp":4600}`), tokenClaims{"system:serviceaccount:prod:billing", at(1000), at(4600)}},
		{"with fractions of seconds", jwt(`{"exp":4600.7}`), tokenClaims{expires: at(4600)}},
		{"with nbf in place of iat", jwt(`{"nbf":5,"exp":9}`), tokenClaims{issued: at(5), expires: at(9)}},
		{"without an end", jwt(`{"sub":"x"}`), tokenClaims{subject: "x"}},
		{"that ends beyond all time", jwt(`{"exp":1e300}`), tokenClaims{}},
		{"that ends before all time", jwt(`{"exp":-1}`), tokenClaims{}},
		{"whose end is no number", jwt(`{"exp":"tomorrow"}`), tokenClaims{}},
		{"whose payload is no object", jwt(`[1]`), tokenClaims{}},
		{"whose payload is no JSON", jwt(`exp`), tokenClaims{}},
		{"whose payload is not base64url", "a.+/+.c", tokenClaims{}},
		{"that is encrypted", "a.b.c.d.e", tokenClaims{}},
		{"that is no JWT", "abcdef.123", tokenClaims{}},
		{"that is empty", "", tokenClaims{}},
	}
	for _, test := range tests {
		t.Run("a token "+test.name, func(t *testing.T) {
			got := readClaims(test.token)
			if got.subject != test.want.subject || !got.issued.Equal(test.want.issued) || !got.expires.Equal(test.want.expires) {
				t.Errorf("claims: got %v, want %v", got, test.want)
			}
		})
	}
}

func TestServiceAccountOfSubject(t *testing.T) {
	tests := []struct{ subject, namespace, name string }{
		{"system:serviceaccount:prod:billing", "prod", "billing"},
		{"spiffe://cluster.local/ns/prod/sa/billing", "prod", "billing"},
		{"spiffe://cluster.local/vm/prod", "", ""},
		{"system:serviceaccount:prod", "", ""},
		{"system:serviceaccount:prod:x; rm -rf /", "", ""},
		{"system:serviceaccount:--out:x", "", ""},
		{"alice", "", ""},
	}
	for _, test := range tests {
		t.Run(test.subject, func(t *testing.T) {
			if namespace, name := serviceAccount(test.subject); namespace != test.namespace || name != test.name {
				t.Errorf("account: got %q and %q, want %q and %q", namespace, name, test.namespace, test.name)
			}
		})
	}
}

func FuzzClaims(f *testing.F) {
	for _, payload := range []string{`{"sub":"system:serviceaccount:a:b","iat":1,"exp":2}`, `{"exp":1e18}`, `{"exp":null}`, `{`} {
		f.Add(jwt(payload))
	}
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		c := tokenCredential("token", token)
		for _, at := range []time.Time{c.Issued, c.Expires} {
			if !at.IsZero() && (at.Unix() < 0 || at.UTC().Year() > 9999) {
				t.Errorf("time %v is beyond what may be shown", at)
			}
		}
		if len(c.Subject) > maxSubject || strings.ContainsFunc(c.Subject, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("subject %q is not fit for a terminal", c.Subject)
		}
		if text := renewal(c); strings.ContainsAny(text, "$`\\\n\"'") {
			t.Errorf("remedy %q is not fit for a shell", text)
		}
	})
}
