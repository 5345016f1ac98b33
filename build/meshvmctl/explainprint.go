package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/meshvm/meshvm/plugin/status"
)

// endings are outcomes in the words of who reads dig's output.
var endings = map[string]string{
	"answered":  "answered",
	"nodata":    "NODATA: the name exists, such a record does not",
	"nxdomain":  "NXDOMAIN: there is no such name",
	"servfail":  "SERVFAIL: it cannot be answered now",
	"refused":   "REFUSED",
	"pending":   "NODATA for now: a virtual IP is awaited",
	"notimp":    "NOTIMP",
	"passed-on": "passed on: the mesh has no say, others are asked",
}

// printJourney writes the answer first, then each step that leads to it.
func printJourney(w io.Writer, j journey) error {
	p := newPrinter(w)
	e := j.Answer
	p.headline(e.Outcome == "answered", fmt.Sprintf("%s %s: %s", e.Name, e.Type, endings[e.Outcome]))
	p.section("", func(row func(...string)) {
		for _, record := range e.Records {
			row("  " + record)
		}
	})
	p.section("", func(row func(...string)) {
		// What CoreDNS answers helps nobody whose query goes elsewhere, so that comes first.
		if e.Outcome == "answered" && len(j.Steps) > 0 && !j.Steps[len(j.Steps)-1].Comes {
			row("fault", "programs here do not get this answer, their query does not come to CoreDNS: "+cmp.Or(j.Redirect.State, "it is in none of the redirect's domains"))
			row("remedy", "meshvmctl doctor says what to do")
		}
		whyRows(row, e)
	})
	p.section("on this machine", func(row func(...string)) {
		l := j.Library
		row("  glibc asks", strings.Join(l.Services, " "))
		if l.HostsFile {
			row("  /etc/hosts", "has the name: DNS is not asked where files comes first")
		}
		row("  servers", strings.Join(l.Servers, " "))
		row("  search", cmp.Or(strings.Join(l.Search, " "), "(none)"))
		row("  ndots", strconv.Itoa(l.Ndots))
		for _, note := range append(l.Notes, l.Unknown...) {
			row("  note", note)
		}
		row("  redirect", strings.TrimSuffix(j.Redirect.Mode+", "+j.Redirect.State, ", "))
	})
	p.section("names asked for, in order", func(row func(...string)) {
		for i, s := range j.Steps {
			comes := "comes here"
			if !s.Comes {
				comes = "does not come here"
			}
			row(fmt.Sprintf("  %d", i+1), s.Name, s.Outcome, comes, s.Reason)
		}
		if len(j.Library.Musl) > 0 {
			row("  musl asks", strings.Join(j.Library.Musl, " "))
		}
	})
	p.section("claims of "+e.Host, func(row func(...string)) {
		for _, claim := range e.Claims {
			sign := "  - "
			if claim.Winner {
				sign = "  + "
			}
			row(sign+claim.Object, claimed(claim), createdAt(claim), claim.Reason)
		}
	})
	return p.w.Flush()
}

func whyRows(row func(...string), e status.Explanation) {
	row("why", e.Reason)
	if e.Host != "" {
		row("host", e.Host+" ("+e.Match+")")
	}
	if e.ClosestEncloser != "" {
		row("exists", e.ClosestEncloser+" is the longest name above it that does")
	}
	if len(e.Nearest) > 0 {
		row("like it", strings.Join(e.Nearest, " "))
	}
	for _, hint := range e.Hints {
		row("try", hint)
	}
	if len(e.Upstreams) > 0 {
		row("upstream", strings.Join(e.Upstreams, " "))
	}
	if len(e.Plugins) > 0 {
		row("plugins", strings.Join(e.Plugins, " > ")+", for "+strings.Join(e.Block, " "))
	}
	if !e.Loaded {
		row("registry", "none")
		return
	}
	namespace := e.Namespace
	if namespace == "" {
		namespace = "(none)"
	}
	state := "not in step with a syncer"
	if e.Synced {
		state = "in step with the syncer"
	}
	row("registry", fmt.Sprintf("revision %d as namespace %s sees it, %s, known to be current %s ago", e.Revision, namespace, state,
		time.Duration(e.StalenessSeconds*float64(time.Second)).Round(time.Second)))
}

func claimed(claim status.Claim) string {
	switch {
	case claim.ExternalName != "":
		return "alias of " + claim.ExternalName
	case claim.Headless:
		return "headless"
	case len(claim.Addresses) == 0:
		return "no addresses"
	}
	return fmt.Sprintf("%s (%s)", strings.Join(claim.Addresses, ", "), claim.AddressKind)
}

func createdAt(claim status.Claim) string {
	if claim.CreatedAt.IsZero() {
		return ""
	}
	return "created " + claim.CreatedAt.Format(time.RFC3339)
}
