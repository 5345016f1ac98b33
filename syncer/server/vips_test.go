package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/syncer/vip"
)

func TestVirtualIPsOverHTTP(t *testing.T) {
	rows := []vip.Row{
		{Host: "a.example.com", Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.1")}, Owners: []vip.Owner{{Namespace: "prod", Name: "a"}}, State: vip.Assigned},
		{Host: "b.example.com", Owners: []vip.Owner{{Namespace: "prod", Name: "b"}}, State: vip.Pending},
		{Host: "b.example.com", State: vip.Quarantined},
	}
	s := start(t, func(o *Options) {
		o.VirtualIPs = func(context.Context) (vip.Table, error) {
			return vip.Table{Mode: vip.ModeStatus, Ranges: []vip.Usage{{Range: netip.MustParsePrefix("240.240.0.0/16"), Used: 1}}, Hosts: rows}, nil
		}
	})
	tests := map[string]struct {
		query string
		code  int
		want  string // hosts and states, or what an error says
	}{
		"all":                      {"", http.StatusOK, "a.example.com assigned, b.example.com pending, b.example.com quarantine"},
		"one host":                 {"?host=b.example.com", http.StatusOK, "b.example.com pending, b.example.com quarantine"},
		"in another spelling":      {"?host=A.Example.com.", http.StatusOK, "a.example.com assigned"},
		"one state":                {"?state=pending", http.StatusOK, "b.example.com pending"},
		"several states":           {"?state=pending,assigned&state=conflict", http.StatusOK, "a.example.com assigned, b.example.com pending"},
		"host and state":           {"?host=b.example.com&state=quarantine", http.StatusOK, "b.example.com quarantine"},
		"nobody":                   {"?host=nope", http.StatusOK, ""},
		"a state that there isn't": {"?state=lost", http.StatusBadRequest, `parameter state "lost": want one of assigned, pending, quarantine, conflict, several, exhausted`},
		"an empty state":           {"?state=", http.StatusBadRequest, `parameter state "": want one of`},
		"an empty host":            {"?host=", http.StatusBadRequest, "parameter host: it is empty"},
		"two hosts":                {"?host=a&host=b", http.StatusBadRequest, "parameter host: got 2, want one"},
		"another parameter":        {"?name=a", http.StatusBadRequest, `parameter "name": want host or state`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, body := s.get("/debug/vips" + test.query)
			if code != test.code {
				t.Fatalf("Code: got %d, want %d: %s", code, test.code, body)
			}
			if code != http.StatusOK {
				if !strings.Contains(body, test.want) {
					t.Errorf("Body: got %q, want it to say %q", body, test.want)
				}
				return
			}
			var table vip.Table
			if err := json.Unmarshal([]byte(body), &table); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			var got []string
			for _, row := range table.Hosts {
				got = append(got, row.Host+" "+string(row.State))
			}
			if strings.Join(got, ", ") != test.want {
				t.Errorf("Hosts: got %q, want %q", got, test.want)
			}
			if table.Mode != vip.ModeStatus || len(table.Ranges) != 1 || table.Ranges[0].Used != 1 {
				t.Errorf("Head: got %+v, want the mode and the range", table)
			}
			if strings.Contains(body, "null") || strings.Count(body, "\n") != len(table.Hosts)+2 {
				t.Errorf("Body: got %q, want no null and a line for each host", body)
			}
		})
	}
}

func TestVirtualIPsThatNobodyKnows(t *testing.T) {
	failing := start(t, func(o *Options) {
		o.VirtualIPs = func(context.Context) (vip.Table, error) { return vip.Table{}, errors.New("the API server is away") }
	})
	for name, test := range map[string]struct {
		syncer *syncer
		code   int
		want   string
	}{
		"without a table":   {start(t, nil), http.StatusNotFound, "does not know of virtual IPs"},
		"with a failure":    {failing, http.StatusServiceUnavailable, "the API server is away"},
		"and the next time": {failing, http.StatusServiceUnavailable, "the API server is away"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, body := test.syncer.get("/debug/vips"); code != test.code || !strings.Contains(body, test.want) {
				t.Errorf("Answer: got %d %q, want %d with %q", code, body, test.code, test.want)
			}
		})
	}
}

// BenchmarkVirtualIPsOverHTTP writes the table of as many hosts as a /16 has addresses for.
func BenchmarkVirtualIPsOverHTTP(b *testing.B) {
	table := vip.Table{Mode: vip.ModeAllocate}
	address := netip.MustParseAddr("240.240.0.1")
	for i := range 65_000 {
		table.Hosts = append(table.Hosts, vip.Row{
			Host: fmt.Sprintf("host-%05d.example.com", i), Addresses: []netip.Addr{address, netip.MustParseAddr("2001:2::1")},
			Owners: []vip.Owner{{Namespace: "prod", Name: fmt.Sprint("entry-", i)}}, State: vip.Assigned,
		})
		address = address.Next()
	}
	b.ReportAllocs()
	for b.Loop() {
		writeTable(bufio.NewWriter(io.Discard), table, vipQuestion{})
	}
}
