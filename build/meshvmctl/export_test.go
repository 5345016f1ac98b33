package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// TestWriteHosts: a hosts file is asked before every server, so that it has what a hosts file can say, and nothing of the machine's own.
func TestWriteHosts(t *testing.T) {
	tests := []struct {
		about string
		name  exportedName
		want  string
	}{
		{"both families", exportedName{Name: "db.example.com", Addresses: []string{"192.0.2.1", "2001:db8::1"}}, "192.0.2.1\tdb.example.com\n2001:db8::1\tdb.example.com\n"},
		{"a wildcard", exportedName{Name: "*.example.com", Wildcard: true, Addresses: []string{"192.0.2.1"}}, "# *.example.com is 192.0.2.1: a hosts file has no wildcards\n"},
		{"an alias", exportedName{Name: "a.example.com", Alias: "b.example.com"}, "# a.example.com is another name of b.example.com: a hosts file has no aliases\n"},
		{"no address", exportedName{Name: "a.example.com"}, "# a.example.com has no address\n"},
		{"localhost", exportedName{Name: "localhost", Addresses: []string{"192.0.2.1"}}, "# localhost is 192.0.2.1: left to the machine\n"},
		{"below localhost", exportedName{Name: "a.localhost", Addresses: []string{"192.0.2.1"}}, "# a.localhost is 192.0.2.1: left to the machine\n"},
		{"a short name", exportedName{Name: "ip6-loopback", Addresses: []string{"2001:db8::1"}}, "# ip6-loopback is 2001:db8::1: left to the machine\n"},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			var text bytes.Buffer
			if err := writeHosts(&text, mirror.New(mirror.Options{}), []exportedName{test.name}); err != nil {
				t.Fatal(err)
			}
			if got := text.String(); !strings.HasPrefix(got, exportedHosts) || !strings.HasSuffix(got, "\n"+test.want) {
				t.Errorf("got %q, want it to begin as export's and end with %q", got, test.want)
			}
		})
	}
}

func TestExportReplacesItsOwnOnly(t *testing.T) {
	var hosts, json bytes.Buffer
	nothing := mirror.New(mirror.Options{})
	if err := writeHosts(&hosts, nothing, nil); err != nil {
		t.Fatal(err)
	}
	if err := writeExportedJSON(&json, nothing, nil); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		there string
		want  string // part of the error
	}{
		"empty":           {"", ""},
		"a hosts file":    {hosts.String(), ""},
		"JSON":            {json.String(), ""},
		"the machine's":   {"127.0.0.1 localhost\n", "export did not write it"},
		"something short": {"x", "export did not write it"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			if err := checkReplaced(file); err != nil {
				t.Errorf("no file: got %v, want no error", err)
			}
			if err := os.WriteFile(file, []byte(test.there), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := checkReplaced(file); (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
