package bootstrap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// said is what a token of these tests says.
type said map[string]any

func signed(t *testing.T, claims said) string {
	t.Helper()
	key := jose.SigningKey{Algorithm: jose.HS256, Key: []byte("thirty-two bytes that are no key")}
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any(claims)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestInspectToken(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	const account = "system:serviceaccount:prod:vm"
	tests := map[string]struct {
		claims  said
		within  time.Duration
		account *Account
		valid   bool
	}{
		"good":                    {said{"sub": account, "exp": at(time.Hour), "nbf": at(0)}, 0, &Account{"prod", "vm"}, true},
		"good for long enough":    {said{"sub": account, "exp": at(time.Hour)}, 59 * time.Minute, &Account{"prod", "vm"}, true},
		"about to end":            {said{"sub": account, "exp": at(time.Hour)}, time.Hour, &Account{"prod", "vm"}, false},
		"just ended":              {said{"sub": account, "exp": at(0)}, 0, &Account{"prod", "vm"}, false},
		"not begun":               {said{"sub": account, "exp": at(time.Hour), "nbf": at(time.Second)}, 0, &Account{"prod", "vm"}, false},
		"without an end":          {said{"sub": account}, time.Hour, &Account{"prod", "vm"}, true},
		"of a person":             {said{"sub": "somebody", "exp": at(time.Hour)}, 0, nil, true},
		"of no account there is":  {said{"sub": "system:serviceaccount:prod:a:b", "exp": at(time.Hour)}, 0, nil, true},
		"of an account in a mess": {said{"sub": "system:serviceaccount:\x1b[2J:vm", "exp": at(time.Hour)}, 0, nil, true},
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
	good := signed(t, said{"sub": "a"})
	header, rest, _ := strings.Cut(good, ".")
	tests := map[string]struct{ content, want string }{
		"empty":          {"", "the token is no JWT"},
		"a word":         {"secret", "the token is no JWT"},
		"two parts":      {header + ".c2VjcmV0", "the token is no JWT"},
		"no JSON":        {header + ".c2VjcmV0.c2VjcmV0", "the token is no JWT"},
		"broken header":  {"!" + header + "." + rest, "the token is no JWT"},
		"a time of text": {signed(t, said{"exp": "secret"}), "the token is no JWT"},
		"a time beyond":  {signed(t, said{"exp": 1e15}), "the claim exp is no time"},
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
