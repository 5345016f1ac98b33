package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rulesMachine has files, and an nft that says what it is told to.
func rulesMachine(t *testing.T, files map[string]string, nft func(script string) (string, error)) Machine {
	t.Helper()
	m := Machine{Root: t.TempDir(), Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
		if name != "nft" || len(args) != 1 {
			t.Errorf("Command: got %s %q, want nft with one script", name, args)
		}
		output, err := nft(args[0])
		return []byte(output), err
	}}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.Path(path), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestWhoIsExempt(t *testing.T) {
	for name, c := range map[string]struct {
		passwd, group string
		istio         bool
		upstream      string
		want          []string
		refused       string
	}{
		"CoreDNS alone":            {passwd: "meshvm:x:998:998:::\n", want: []string{"meta skuid { 998 } return"}},
		"systemd-resolved, too":    {passwd: "systemd-resolve:x:101:101:::\nmeshvm:x:998:998:::\n", want: []string{"meta skuid { 101, 998 } return"}},
		"Istio's user and group":   {passwd: "meshvm:x:998:998:::\nistio-proxy:x:997:997:::\n", group: "istio-proxy:x:996:\n", want: []string{"meta skuid { 997, 998 } return", "meta skgid { 996 } return"}},
		"Istio without its user":   {passwd: "meshvm:x:998:998:::\n", istio: true, want: []string{"meta skuid { 998, 1337 } return", "meta skgid { 1337 } return"}},
		"lines that are none":      {passwd: "+\n::\nmeshvm:x:many:1:::\nmeshvm:x:998:998:::\n", want: []string{"meta skuid { 998 } return"}},
		"a stub behind CoreDNS":    {passwd: "meshvm:x:998:998:::\nsystemd-resolve:x:101:101:::\n", upstream: "127.0.0.53:53", want: []string{"meta skuid { 101, 998 } return"}},
		"no user of CoreDNS":       {passwd: "root:x:0:0:::\n", refused: "there is no user meshvm"},
		"CoreDNS as root":          {passwd: "meshvm:x:0:0:::\n", refused: "is root"},
		"dnsmasq behind CoreDNS":   {passwd: "meshvm:x:998:998:::\n", upstream: "127.0.1.1:53", refused: "127.0.1.1:53 runs on this machine"},
		"a stub of an unknown one": {passwd: "meshvm:x:998:998:::\n", upstream: "127.0.0.53:53", refused: "127.0.0.53:53 runs on this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"/etc/passwd": c.passwd, "/etc/group": c.group}
			if c.istio {
				files["/var/lib/istio/envoy/sidecar.env"] = ""
			}
			var plan Plan
			if c.upstream != "" {
				plan.Upstreams = []netip.AddrPort{netip.MustParseAddrPort(c.upstream)}
			}
			e, err := rulesMachine(t, files, nil).exempt(plan)
			if c.refused != "" {
				impossible := (*Impossible)(nil)
				if !errors.As(err, &impossible) || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("Error: got %v, want an Impossible with %q", err, c.refused)
				}
				return
			}
			if err != nil || !slices.Equal(e.rules(), c.want) {
				t.Errorf("Rules: got %q %v, want %q", e.rules(), err, c.want)
			}
		})
	}
}

var accountsOfTest = map[string]string{"/etc/passwd": "meshvm:x:998:998:::\n", "/etc/group": "meshvm:x:998:\n"}

func TestRulesAreOneTransaction(t *testing.T) {
	var scripts []string
	m := rulesMachine(t, accountsOfTest, func(script string) (string, error) {
		scripts = append(scripts, script)
		return "table ip nat\ntable ip meshvm\ntable ip6 meshvm\ntable inet meshvm\n", nil
	})
	if err := applyTransparent(t.Context(), m, Plan{Server: netip.MustParseAddrPort("127.0.0.1:5353"), Mode: Resolved}); err != nil {
		t.Fatalf("applyTransparent: %v", err)
	}
	if len(scripts) != 2 {
		t.Fatalf("Scripts: got %q, want a look and one change", scripts)
	}
	for _, want := range []string{
		"delete table ip meshvm\ndelete table ip6 meshvm\ntable ip meshvm {", "ip daddr { 127.0.0.53, 127.0.0.54 } return", "udp dport 53 dnat to 127.0.0.1:5353",
	} {
		if !strings.Contains(scripts[1], want) {
			t.Errorf("Script: got %s, want %q in it", scripts[1], want)
		}
	}
	for _, other := range []string{"table ip nat", "table inet", "table ip6 meshvm {"} {
		if strings.Contains(scripts[1], other) {
			t.Errorf("Script: got %s, want no %q", scripts[1], other)
		}
	}
}

func TestWithoutNFT(t *testing.T) {
	m := rulesMachine(t, accountsOfTest, func(string) (string, error) { return "", fmt.Errorf("nft: %w", exec.ErrNotFound) })
	impossible := (*Impossible)(nil)
	if err := applyTransparent(t.Context(), m, Plan{Server: netip.MustParseAddrPort("127.0.0.1:53")}); !errors.As(err, &impossible) || !strings.Contains(err.Error(), "install the package nftables") {
		t.Errorf("applyTransparent: got %v, want what to install", err)
	}
	if err := revertTransparent(t.Context(), m); err != nil {
		t.Errorf("revertTransparent where nothing was applied: got %v, want none", err)
	}
	s := State{Plan: Plan{Mode: None, Transparent: true}}
	if err := os.MkdirAll(filepath.Dir(m.Path(StateFile)), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := s.save(m); err != nil {
		t.Fatal(err)
	}
	if err := revertTransparent(t.Context(), m); err == nil {
		t.Error("revertTransparent of rules that were applied: got no error, want one")
	}
	s.Boot = "another"
	if err := s.save(m); err != nil {
		t.Fatal(err)
	}
	if err := revertTransparent(t.Context(), m); err != nil {
		t.Errorf("revertTransparent of rules of another boot: got %v, want none: they went with it", err)
	}
}

func TestWhereNoRulesCanBe(t *testing.T) {
	for name, p := range map[string]Plan{
		"nowhere":          {},
		"an address each":  {Server: netip.MustParseAddrPort("0.0.0.0:53")},
		"a zone":           {Server: netip.MustParseAddrPort("[fe80::1%eth0]:53")},
		"one family twice": {Server: netip.MustParseAddrPort("[::1]:53"), Server6: netip.MustParseAddrPort("[::1]:53")},
	} {
		t.Run(name, func(t *testing.T) {
			m := rulesMachine(t, accountsOfTest, func(string) (string, error) { return "", errors.New("nft was run") })
			impossible := (*Impossible)(nil)
			if err := applyTransparent(t.Context(), m, p); !errors.As(err, &impossible) {
				t.Errorf("applyTransparent: got %v, want an Impossible", err)
			}
		})
	}
}
