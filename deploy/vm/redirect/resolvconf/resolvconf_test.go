package resolvconf

import (
	"fmt"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, content string
		servers       string
		search        string
		options       string
		ndots         int
		root          bool // is all that is searched
	}{
		{name: "nothing", ndots: 1},
		{name: "a plain one", content: "search a.example b.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:2 timeout:1\n",
			servers: "192.0.2.1 192.0.2.2", search: "a.example b.example", options: "ndots:2 timeout:1", ndots: 2},
		{name: "comments behind what is said", content: "nameserver 192.0.2.1 # the router\nnameserver 192.0.2.2;spare\n# nameserver 192.0.2.3\n; nameserver 192.0.2.4\n",
			servers: "192.0.2.1 192.0.2.2", ndots: 1},
		{name: "more servers than libraries ask", content: "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
			servers: "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4", ndots: 1},
		{name: "zone ids, and IPv4 in IPv6", content: "nameserver fe80::1%eth0\nnameserver ::ffff:192.0.2.1\n", servers: "fe80::1%eth0 192.0.2.1", ndots: 1},
		{name: "what is no address", content: "nameserver router\nnameserver\nnameserver 192.0.2.256\n", ndots: 1},
		{name: "domain after search", content: "search a.example b.example\ndomain C.example.\n", search: "c.example", ndots: 1},
		{name: "search after domain", content: "domain c.example\nsearch a.example . A.example\n", search: "a.example", ndots: 1},
		{name: "search of the root alone", content: "search .\n", ndots: 1, root: true},
		{name: "no end of line, and carriage returns", content: "search a.example\r\nnameserver 192.0.2.1\r", servers: "192.0.2.1", search: "a.example", ndots: 1},
		{name: "options of several lines", content: "options rotate ndots:5\noptions ndots:99\noptions ndots:-1 ndots:x\n", options: "rotate ndots:5 ndots:99 ndots:-1 ndots:x", ndots: 15},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Parse([]byte(test.content))
			for _, field := range []struct{ name, got, want string }{
				{"Servers", fmt.Sprint(got.Servers), "[" + test.servers + "]"},
				{"Search", fmt.Sprint(got.Search), "[" + test.search + "]"},
				{"Searches", fmt.Sprint(got.Searches), fmt.Sprint(test.search != "" || test.root)},
				{"Options", fmt.Sprint(got.Options), "[" + test.options + "]"},
				{"Ndots", fmt.Sprint(got.Ndots()), fmt.Sprint(test.ndots)},
			} {
				if field.got != field.want {
					t.Errorf("%s: got %s, want %s", field.name, field.got, field.want)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("search a.example b.example\nnameserver 192.0.2.1 # one\noptions ndots:2\n"))
	f.Add([]byte("domain .\nnameserver fe80::1%eth0;\n\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got := Parse(content)
		if slices.ContainsFunc(got.Search, func(domain string) bool { return domain == "" }) || got.Ndots() < 0 || got.Ndots() > mostNdots {
			t.Errorf("Parse(%q): got %+v, ndots %d", content, got, got.Ndots())
		}
	})
}
