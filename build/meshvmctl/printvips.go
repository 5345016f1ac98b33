package main

import (
	"cmp"
	"io"
	"strings"
	"time"

	"github.com/meshvm/meshvm/syncer/vip"
)

// printVIPs writes a table with a line for each host. A cell that has nothing to say is a hyphen, so that every
// line has as many; only the note, which is last, may have spaces.
func printVIPs(w io.Writer, table vip.Table, now time.Time) error {
	p := newPrinter(w)
	p.section("", func(row func(...string)) {
		if len(table.Hosts) > 0 {
			row("HOST", "ADDRESSES", "OWNERS", "SINCE", "STATE", "QUARANTINE", "NOTE")
		}
		for _, host := range table.Hosts {
			var addresses, owners []string
			for _, address := range host.Addresses {
				addresses = append(addresses, address.String())
			}
			for _, owner := range host.Owners {
				owners = append(owners, owner.String())
			}
			row(host.Host, cell(strings.Join(addresses, ",")), cell(strings.Join(owners, ",")), since(host.Since), string(host.State), left(host, now), cell(host.Note))
		}
	})
	return p.w.Flush()
}

func cell(text string) string { return cmp.Or(text, "-") }

func since(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format(time.RFC3339)
}

// left is how long addresses rest until another host may have them.
func left(host vip.Row, now time.Time) string {
	switch {
	case host.State != vip.Quarantined:
		return "-"
	case host.Until.IsZero():
		return "not-begun" // A status still names an address.
	}
	return max(host.Until.Sub(now).Round(time.Second), 0).String()
}
