package registry

import (
	"strings"
	"testing"
)

func TestParseEgressHost(t *testing.T) {
	tests := []struct {
		text, want, problem string
	}{
		{text: "*/*", want: "*/*"},
		{text: "./*", want: "own/*"},
		{text: "prod/*", want: "prod/*"},
		{text: "prod/reviews.prod.svc.cluster.local", want: "prod/reviews.prod.svc.cluster.local"},
		{text: "*/*.example.com", want: "*/*.example.com"},
		{text: "*/API.Example.com", want: "*/api.example.com"},
		{text: "*/_sip.example.com", want: "*/_sip.example.com"},
		{text: "~/*", want: "~*/*"},
		{text: "~*/*", want: "~*/*"},
		{text: "~./*.example.com", want: "~own/*.example.com"},
		{text: "~prod/secret.prod.svc.cluster.local", want: "~prod/secret.prod.svc.cluster.local"},
		{text: "", problem: `"": want namespace/dnsName`},
		{text: "*", problem: "want namespace/dnsName"},
		{text: "reviews.prod.svc.cluster.local", problem: "want namespace/dnsName"},
		{text: "a/b/c.example.com", problem: "want namespace/dnsName"},
		{text: "/*", problem: `namespace ""`},
		{text: "Prod/*", problem: `namespace "Prod"`},
		{text: "a.b/*", problem: `namespace "a.b"`},
		{text: "~~/*", problem: `namespace "~~"`},
		{text: "prod/", problem: `host ""`},
		{text: "prod/reviews", problem: `host "reviews"`},
		{text: "prod/*.", problem: `host "*."`},
		{text: "prod/*reviews.example.com", problem: `host "*reviews.example.com"`},
		{text: "prod/a.*.com", problem: `host "a.*.com"`},
		{text: "prod/a..com", problem: `host "a..com"`},
		{text: "prod/~", problem: `host "~"`},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			got, err := ParseEgressHost(test.text, "own")
			switch {
			case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
				t.Errorf("Error: got %v, want one with %s", err, test.problem)
			case test.problem == "" && err != nil:
				t.Errorf("Error: got %v, want none", err)
			case test.problem == "" && got.String() != test.want:
				t.Errorf("Host: got %s, want %s", got, test.want)
			}
		})
	}
}

// FuzzParseEgressHost holds that what is read says the same when it is read again.
func FuzzParseEgressHost(f *testing.F) {
	for _, seed := range []string{"*/*", "./*", "~/*", "~prod/a.example.com", "prod/*.example.com", "a/b/c", "/", "~"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := ParseEgressHost(text, "own")
		if err != nil {
			return
		}
		again, err := ParseEgressHost(first.String(), "other")
		if err != nil || again != first {
			t.Errorf("%q is read as %+v, and that as %+v (%v)", text, first, again, err)
		}
	})
}
