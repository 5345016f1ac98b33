package bootstrap

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var testKey = []byte("a key of this test")

func signed(tb testing.TB, claims jwt.MapClaims) string {
	tb.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(testKey)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func TestInspectToken(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	const account = "system:serviceaccount:prod:vm"
	tests := map[string]struct {
		claims  jwt.MapClaims
		within  time.Duration
		account *Account
		valid   bool
	}{
		"good":                    {jwt.MapClaims{"sub": account, "exp": at(time.Hour), "nbf": at(0)}, 0, &Account{"prod", "vm"}, true},
		"good for long enough":    {jwt.MapClaims{"sub": account, "exp": at(time.Hour)}, 59 * time.Minute, &Account{"prod", "vm"}, true},
		"about to end":            {jwt.MapClaims{"sub": account, "exp": at(time.Hour)}, time.Hour, &Account{"prod", "vm"}, false},
		"just ended":              {jwt.MapClaims{"sub": account, "exp": at(0)}, 0, &Account{"prod", "vm"}, false},
		"not begun":               {jwt.MapClaims{"sub": account, "exp": at(time.Hour), "nbf": at(time.Second)}, 0, &Account{"prod", "vm"}, false},
		"without an end":          {jwt.MapClaims{"sub": account}, time.Hour, &Account{"prod", "vm"}, true},
		"of a person":             {jwt.MapClaims{"sub": "somebody", "exp": at(time.Hour)}, 0, nil, true},
		"of no account there is":  {jwt.MapClaims{"sub": "system:serviceaccount:prod:a:b", "exp": at(time.Hour)}, 0, nil, true},
		"of an account in a mess": {jwt.MapClaims{"sub": "system:serviceaccount:\x1b[2J:vm", "exp": at(time.Hour)}, 0, nil, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			put(t, file, "  "+signed(t, test.claims)+"\n")
			claims, err := InspectToken(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := claims.IsValid(now, test.within); got != test.valid {
				t.Errorf("Valid: got %t, want %t", got, test.valid)
			}
			switch {
			case (claims.Account == nil) != (test.account == nil):
				t.Errorf("Account: got %v, want %v", claims.Account, test.account)
			case claims.Account != nil && *claims.Account != *test.account:
				t.Errorf("Account: got %v, want %v", *claims.Account, *test.account)
			}
		})
	}
}

func TestInspectNoToken(t *testing.T) {
	good := signed(t, jwt.MapClaims{"sub": "a"})
	header, rest, _ := strings.Cut(good, ".")
	tests := map[string]struct{ content, want string }{
		"empty":          {"", "it is no JSON Web Token"},
		"a word":         {"secret", "it is no JSON Web Token"},
		"two parts":      {header + ".c2VjcmV0", "it is no JSON Web Token"},
		"no JSON":        {header + ".c2VjcmV0.c2VjcmV0", "it is no JSON Web Token"},
		"broken header":  {"!" + header + "." + rest, "it is no JSON Web Token"},
		"a time of text": {signed(t, jwt.MapClaims{"exp": "secret"}), "it is no JSON Web Token"},
		"a time beyond":  {signed(t, jwt.MapClaims{"exp": 1e15}), "a time in it is none"},
		"too long":       {strings.Repeat("secret", 3000), "larger than 12288 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			put(t, file, test.content)
			_, err := InspectToken(file)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Fatalf("Got %v, want %q and the file", err, test.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("Got %q, want nothing of the content", err)
			}
		})
	}
	for name, path := range map[string]string{"a device": os.DevNull, "a folder": t.TempDir(), "nothing": "/no/such/file"} {
		t.Run(name, func(t *testing.T) {
			if _, err := InspectToken(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("Got %v, want an error that names it", err)
			}
		})
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(signed(f, jwt.MapClaims{"sub": "system:serviceaccount:prod:vm", "aud": []string{"meshvm"}, "exp": 1_800_000_000, "nbf": 1.5}))
	f.Add(signed(f, jwt.MapClaims{"aud": "meshvm", "exp": 1e300}))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := parseClaims(token)
		if err != nil {
			if len(token) > 8 && strings.Contains(err.Error(), token) {
				t.Errorf("Got %q, want nothing of the token", err)
			}
			return
		}
		if _, err := json.Marshal(claims); err != nil {
			t.Errorf("Write as JSON: %v", err)
		}
		if claims.Account != nil {
			if err := claims.Account.Check(); err != nil {
				t.Errorf("Account: got %v", err)
			}
		}
	})
}
