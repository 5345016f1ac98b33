package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJoinRefuses(t *testing.T) {
	empty := t.TempDir()
	half := t.TempDir()
	corefile := ". {\n meshvm cluster.local {\n syncer a:1\n tls /etc/meshvm/ca.pem\n token /etc/meshvm/token\n }\n}\n"
	if err := os.WriteFile(filepath.Join(half, "Corefile"), []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		code int
		want []string
	}{
		"nothing":         {nil, exitUsage, []string{"want one DIR or FILE.tar.gz, got 0"}},
		"two":             {[]string{"a", "b"}, exitUsage, []string{"want one DIR or FILE.tar.gz, got 2"}},
		"in no time":      {[]string{"a", "--timeout", "0"}, exitUsage, []string{"--timeout 0s"}},
		"an image of ''":  {[]string{"a", "--root", ""}, exitUsage, []string{"--root is empty"}},
		"no such folder":  {[]string{empty + "/none"}, exitRefused, []string{"no such file", "resolves names as before"}},
		"an empty folder": {[]string{empty}, exitRefused, []string{"the bundle has no Corefile", "resolves names as before"}},
		"half a bundle":   {[]string{half, "--root", empty}, exitRefused, []string{"the authority /etc/meshvm/ca.pem", "the token /etc/meshvm/token"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, append([]string{"join"}, test.args...)...)
			if code != test.code || stdout != "" {
				t.Errorf("exit %d, stdout %q; want exit %d and nothing", code, stdout, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr %q, want %q in it", stderr, want)
				}
			}
		})
	}
}
