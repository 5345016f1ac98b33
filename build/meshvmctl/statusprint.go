package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/meshvm/meshvm/plugin/status"
)

// printStatus writes a paragraph for each mirror: whom it follows, what it holds, what it proves itself with, and, last, what
// is wrong and what to do.
func printStatus(w io.Writer, shown statusView) error {
	p, report := newPrinter(w), shown.Report
	printProcess(p, shown)
	if len(report.Mirrors) == 0 {
		fmt.Fprintln(p.w, "no mirror: no Server Block has meshvm")
	}
	for i, m := range report.Mirrors {
		if i > 0 || p.w.Buffered() > 0 {
			fmt.Fprintln(p.w)
		}
		p.section("", func(add func(...string)) {
			row := func(name, text string) { add(name, plain(text)) }
			row("syncers", strings.Join(m.Syncers, " ")+statusOwner(m))
			row("stream", statusStream(m, report.At))
			row("registry", statusRegistry(m, report.At))
			if m.Loaded {
				row("names", fmt.Sprintf("%d hosts", m.Names))
			}
			row("snapshot", cmp.Or(m.SnapshotFile, "none"))
			for _, c := range m.Credentials {
				row(c.Kind, statusCredential(c, report.At))
			}
			for _, fault := range m.Faults(report.At) {
				row("fault", fault)
			}
			if problem := m.Problem; problem != nil {
				row("problem", fmt.Sprintf("since %s: %s: %s", moment(problem.Since, report.At), cmp.Or(problem.Reason, problem.Cause), problem.Message))
				if problem.Remedy != "" {
					row("remedy", problem.Remedy)
				}
			}
		})
	}
	return p.w.Flush()
}

// printProcess writes what all mirrors share: where DNS is answered, how names come there, and who is asked for the rest.
func printProcess(p *printer, shown statusView) {
	p.section("", func(add func(...string)) {
		row := func(name, text string) { add(name, plain(text)) }
		var addresses []string
		for _, listener := range shown.Servers {
			addresses = append(addresses, listener.Address)
		}
		if len(addresses) > 0 {
			row("listens", strings.Join(addresses, " "))
		}
		if r := shown.Redirect; r != nil {
			row("redirect", r.Mode+", "+r.State)
		}
		if len(shown.Upstreams) > 0 {
			row("upstreams", strings.Join(shown.Upstreams, " "))
		}
	})
}

func statusOwner(m status.Mirror) string {
	var said []string
	if m.Namespace != "" {
		said = append(said, "namespace "+m.Namespace)
	}
	if m.Node != "" {
		said = append(said, "node "+m.Node)
	}
	if len(said) == 0 {
		return ""
	}
	return " (" + strings.Join(said, ", ") + ")"
}

func statusStream(m status.Mirror, at time.Time) string {
	if m.ConnectedAddress == "" {
		return "none since " + moment(m.Since, at)
	}
	state := "in step"
	if !m.Synced {
		state = "not yet in step"
	}
	return fmt.Sprintf("%s since %s, %s", m.ConnectedAddress, moment(m.Since, at), state)
}

func statusRegistry(m status.Mirror, at time.Time) string {
	if !m.Loaded {
		return "none"
	}
	return fmt.Sprintf("revision %d of %s, %d resources as namespace %s sees them, current %s",
		m.Revision, m.Generation, m.Resources, cmp.Or(m.View, "(none)"), moment(m.ConfirmedAt, at))
}

func statusCredential(c status.Credential, at time.Time) string {
	text := c.File
	if c.Subject != "" {
		text += " of " + c.Subject
	}
	switch {
	case c.Fault != "":
		return text + ", cannot be used"
	case c.Expires.IsZero():
		return text + ", nobody knows until when"
	}
	return text + ", until " + moment(c.Expires, at)
}

// moment is a time and how far it is from another.
func moment(when, at time.Time) string {
	if when.IsZero() {
		return "never"
	}
	distance := at.Sub(when).Round(time.Second)
	text := when.UTC().Format(time.RFC3339)
	if distance < 0 {
		return fmt.Sprintf("%s (in %s)", text, -distance)
	}
	return fmt.Sprintf("%s (%s ago)", text, distance)
}

// plain keeps what others said from commanding a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
