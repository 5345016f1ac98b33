package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/syncer/vip"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func addressList(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// someVIPs has a host in every state.
func someVIPs() vip.Table {
	owner := func(name string) vip.Owner { return vip.Owner{Namespace: "prod", Name: name} }
	return vip.Table{
		Mode: vip.ModeAllocate, Allocator: "syncer-0",
		Ranges: []vip.Usage{{Range: netip.MustParsePrefix("240.240.0.0/16"), Addresses: 65024, Used: 4, Quarantined: 1}},
		Hosts: []vip.Row{
			{Host: "*.wild.example.com", Addresses: addressList("240.240.0.9"), Owners: []vip.Owner{owner("wild")}, Since: noon.Add(-48 * time.Hour), State: vip.Assigned},
			{Host: "api.example.com", Addresses: addressList("240.240.0.1", "2001:2::1"), Owners: []vip.Owner{owner("api"), owner("api-more")}, Since: noon.Add(-time.Hour), State: vip.Assigned},
			{Host: "clash.example.com", Addresses: addressList("240.240.0.1"), Owners: []vip.Owner{owner("clash")}, State: vip.Conflicting, Note: "host api.example.com has it as well"},
			{Host: "full.example.com", Owners: []vip.Owner{owner("full")}, State: vip.Lacking},
			{Host: "gone.example.com", Addresses: addressList("240.240.0.2"), Owners: []vip.Owner{owner("gone")}, Since: noon, State: vip.Quarantined, Until: noon.Add(90 * time.Minute)},
			{Host: "going.example.com", Addresses: addressList("240.240.0.3"), Owners: []vip.Owner{owner("going")}, Since: noon, State: vip.Quarantined},
			{Host: "late.example.com", Owners: []vip.Owner{owner("late")}, State: vip.Pending},
			{Host: "past.example.com", Addresses: addressList("240.240.0.5"), Owners: []vip.Owner{owner("past")}, Since: noon, State: vip.Quarantined, Until: noon.Add(-time.Minute)},
			{Host: "split.example.com", Addresses: addressList("240.240.0.6", "240.240.0.7"), Owners: []vip.Owner{owner("a"), owner("b")}, State: vip.Diverging},
		},
	}
}

func TestPrintVIPs(t *testing.T) {
	var b strings.Builder
	if err := printVIPs(&b, someVIPs(), noon); err != nil {
		t.Fatal(err)
	}
	const want = `
HOST                ADDRESSES                OWNERS                  SINCE                 STATE       QUARANTINE  NOTE
*.wild.example.com  240.240.0.9              prod/wild               2026-11-21T12:00:00Z  assigned    -           -
api.example.com     240.240.0.1,2001:2::1    prod/api,prod/api-more  2026-11-23T11:00:00Z  assigned    -           -
clash.example.com   240.240.0.1              prod/clash              -                     conflict    -           host api.example.com has it as well
full.example.com    -                        prod/full               -                     exhausted   -           -
gone.example.com    240.240.0.2              prod/gone               2026-11-23T12:00:00Z  quarantine  1h30m0s     -
going.example.com   240.240.0.3              prod/going              2026-11-23T12:00:00Z  quarantine  not-begun   -
late.example.com    -                        prod/late               -                     pending     -           -
past.example.com    240.240.0.5              prod/past               2026-11-23T12:00:00Z  quarantine  0s          -
split.example.com   240.240.0.6,240.240.0.7  prod/a,prod/b           -                     several     -           -
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("Table: got %s\nwant %s", got, want)
	}
}

func TestVIPs(t *testing.T) {
	s := startSyncerWith(t, server.Options{VirtualIPs: func(context.Context) (vip.Table, error) { return someVIPs(), nil }})
	tests := map[string]struct {
		args  []string
		code  int
		hosts string // Empty: nothing is printed.
	}{
		"all":                      {nil, exitFound, "*.wild.example.com api.example.com clash.example.com full.example.com going.example.com gone.example.com late.example.com past.example.com split.example.com"},
		"one":                      {[]string{"api.example.com"}, exitFound, "api.example.com"},
		"one, in another spelling": {[]string{"API.example.com."}, exitFound, "api.example.com"},
		"a wildcard":               {[]string{"*.wild.example.com"}, exitFound, "*.wild.example.com"},
		"none":                     {[]string{"nope.example.com"}, exitNotFound, ""},
		"in a state":               {[]string{"--state", "conflict"}, exitFound, "clash.example.com"},
		"in several states":        {[]string{"--state", "conflict,pending", "--state", "exhausted"}, exitFound, "clash.example.com full.example.com late.example.com"},
		"one in another state":     {[]string{"api.example.com", "--state", "pending"}, exitNotFound, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, append([]string{"vips", "--http", s.http}, test.args...)...)
			var hosts []string
			for line := range strings.Lines(stdout) {
				if host := strings.Fields(line)[0]; host != "HOST" {
					hosts = append(hosts, host)
				}
			}
			if got := strings.Join(hosts, " "); code != test.code || got != test.hosts {
				t.Errorf("exit %d, hosts %q; want exit %d, hosts %q", code, got, test.code, test.hosts)
			}
			if (stderr != "") != (test.hosts == "") || test.hosts == "" && stdout != "" {
				t.Errorf("stdout %q, stderr %q; want one of them", stdout, stderr)
			}
		})
	}
	t.Run("JSON", func(t *testing.T) {
		code, stdout, stderr := meshvmctl(t, "vips", "--http", s.http, "-o", "json", "gone.example.com")
		var table vip.Table
		if err := json.Unmarshal([]byte(stdout), &table); err != nil || code != exitFound || stderr != "" {
			t.Fatalf("exit %d, stdout %q, stderr %q: %v", code, stdout, stderr, err)
		}
		if table.Mode != vip.ModeAllocate || table.Allocator != "syncer-0" || len(table.Ranges) != 1 || table.Ranges[0].Used != 4 ||
			len(table.Hosts) != 1 || !table.Hosts[0].Until.Equal(noon.Add(90*time.Minute)) {
			t.Errorf("Table: got %+v, want the head and one host", table)
		}
	})
	t.Run("JSON of nothing", func(t *testing.T) {
		code, stdout, stderr := meshvmctl(t, "vips", "--http", s.http, "-o", "json", "nope.example.com")
		if code != exitNotFound || stderr != "" || !strings.Contains(stdout, `"hosts": []`) {
			t.Errorf("exit %d, stdout %q, stderr %q; want exit 1 and no hosts", code, stdout, stderr)
		}
	})
}

func TestVIPsThatCannotBeAsked(t *testing.T) {
	closed := listen(t)
	nobody := closed.Addr().String()
	closed.Close()
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer stranger.Close()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for line := strings.Repeat(" ", 1<<20); ; {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	failing := startSyncerWith(t, server.Options{VirtualIPs: func(context.Context) (vip.Table, error) { return vip.Table{}, errors.New("the API server is away") }})
	for name, test := range map[string]struct{ address, want string }{
		"nobody listens":          {nobody, "connection refused"},
		"no syncer":               {stranger.URL, "does not answer as a syncer"},
		"an answer without end":   {endless.URL, fmt.Sprintf("larger than %d bytes", maxTable)},
		"a syncer without a page": {startSyncer(t).http, "404"},
		"a syncer that fails":     {failing.http, "the API server is away"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, "vips", "--http", test.address)
			if code != exitUnreachable || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit 3 and one line with %q", code, stdout, stderr, test.want)
			}
		})
	}
}
