package nsswitch

import (
	"slices"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	tests := []struct {
		name, content string
		want          string
		resolve       bool
	}{
		{"Debian", "passwd: files systemd\nhosts:          files dns\n", "files dns", false},
		{"Ubuntu with libnss-resolve", "hosts: files resolve [!UNAVAIL=return] dns\n", "files resolve dns", true},
		{"Fedora", "hosts:      files myhostname resolve [!UNAVAIL=return] dns\n", "files myhostname resolve dns", true},
		{"action without spaces", "hosts: files mdns4_minimal[NOTFOUND=return]dns resolve", "files mdns4_minimal dns resolve", false},
		{"several words in an action", "hosts: resolve [NOTFOUND=continue UNAVAIL=continue] dns", "resolve dns", true},
		{"comment", "# hosts: resolve\nhosts: files dns # resolve\n", "files dns", false},
		{"the last line counts", "hosts: resolve\nhosts: dns\n", "dns", false},
		{"no line", "passwd: files\n", "dns files", false},
		{"nothing behind it", "hosts:\n", "", false},
		{"no file", "", "dns files", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Hosts([]byte(test.content))
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := ResolveBeforeDNS(got); got != test.resolve {
				t.Errorf("resolve before dns: got %t, want %t", got, test.resolve)
			}
		})
	}
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("hosts: files resolve [!UNAVAIL=return] dns"))
	f.Fuzz(func(t *testing.T, content []byte) {
		services := Hosts(content)
		if slices.ContainsFunc(services, func(s string) bool { return strings.ContainsAny(s, "[] \t\n") }) {
			t.Errorf("got %q, want words", services)
		}
	})
}
