package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meshvm/meshvm/syncer/server/explain"
)

// outcomes in the words of who reads dig's output.
var outcomes = map[explain.Outcome]string{
	explain.Answered:  "answered",
	explain.NoData:    "NODATA: the name exists, such a record does not",
	explain.NameError: "NXDOMAIN: there is no such name",
	explain.PassedOn:  "passed on: the mesh has no say, the VM asks its upstream servers",
}

// printText writes an explanation for people: the answer first, then where it comes from and why, then
// who else claimed the name.
func printText(w io.Writer, e explain.Explanation) error {
	p := newPrinter(w)
	p.headline(e.Outcome == explain.Answered, fmt.Sprintf("%s: %s", e.Name, outcomes[e.Outcome]))
	p.section("", func(row func(...string)) {
		for _, record := range e.Records {
			row("  "+record.Type, record.Value, ttl(record))
		}
	})
	p.section("", func(row func(...string)) { provenance(row, e) })
	p.section("endpoints", func(row func(...string)) {
		for _, endpoint := range e.Endpoints {
			row("  "+strings.Join(endpoint.Addresses, ", "), condition(endpoint), strings.Join(endpoint.Names, ", "), endpoint.Slice.String(), shown(e, endpoint.Ports))
		}
	})
	for _, candidate := range e.Candidates {
		title := "claims of " + candidate.Host
		if !candidate.Chosen {
			title += ", not used"
		}
		p.section(title, func(row func(...string)) {
			for _, claim := range candidate.Claims {
				row(mark(claim)+claim.Object.String(), content(e, claim), "exported to "+claim.ExportTo, created(claim), claim.Reason)
			}
		})
	}
	return p.w.Flush()
}

// printer writes sections of aligned columns, in colours where a terminal shows them.
type printer struct {
	w *bufio.Writer
	// to is where w writes.
	to io.Writer
}

func newPrinter(w io.Writer) *printer { return &printer{w: bufio.NewWriter(w), to: w} }

// headline writes a line on its own. good: it says what was hoped for.
func (p *printer) headline(good bool, text string) {
	colour := red
	if good {
		colour = green
	}
	p.styled(colour, func() { fmt.Fprint(p.w, text) })
	fmt.Fprintln(p.w)
}

// section writes the rows that fill makes, under a title if there is one. Nothing, if it makes none.
func (p *printer) section(title string, fill func(row func(cells ...string))) {
	var aligned bytes.Buffer
	var styles []style
	table := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	fill(func(cells ...string) {
		for len(cells) > 0 && cells[len(cells)-1] == "" {
			cells = cells[:len(cells)-1]
		}
		line := strings.ReplaceAll(strings.Join(cells, "\t"), "\n", " ")
		styles = append(styles, plainly)
		if len(cells) > 0 {
			styles[len(styles)-1] = styleOf(cells[0])
		}
		fmt.Fprintln(table, line)
	})
	table.Flush() // a buffer takes all
	if len(styles) > 0 && title != "" {
		fmt.Fprintln(p.w)
		p.styled(bold, func() { fmt.Fprint(p.w, title) })
		fmt.Fprintln(p.w)
	}
	for _, s := range styles {
		line, err := aligned.ReadBytes('\n')
		p.styled(s, func() { fmt.Fprintf(p.w, "%s", bytes.TrimSuffix(line, []byte("\n"))) }) // an error stays with p.w, whose Flush tells it
		if err == nil {
			fmt.Fprintln(p.w)
		}
	}
}

// provenance says from which objects an answer comes, and why.
func provenance(row func(...string), e explain.Explanation) {
	for i, object := range e.Objects {
		row([]string{"from", ""}[min(i, 1)], object.String())
	}
	row("why", e.Reason)
	if e.Host != "" && e.Host != e.Name {
		row("host", e.Host)
	}
	if e.AddressKind != "" {
		row("addresses", e.AddressKind)
	}
	row("seen from", cmp.Or(e.Namespace, "no namespace"))
	if e.Sidecar != nil {
		row("through", e.Sidecar.String())
	}
	row("registry", fmt.Sprintf("revision %d, zone %s", e.Revision, e.ClusterDomain))
	if !e.Ready {
		row("note", "the syncer is not ready: the answer may lack what has not synced")
	}
}

func condition(endpoint explain.Endpoint) string {
	switch {
	case endpoint.Ready:
		return "ready"
	case endpoint.Terminating:
		return "terminating"
	default:
		return "not ready"
	}
}

// mark tells winners from the rest.
func mark(claim explain.Claim) string {
	if claim.Winner {
		return "  + "
	}
	return "  - "
}

func ttl(record explain.Record) string {
	if record.TTL == 0 {
		return ""
	}
	return fmt.Sprintf("TTL %d s", record.TTL)
}

// content is what a claim would answer.
func content(e explain.Explanation, claim explain.Claim) string {
	text := fmt.Sprintf("%s (%s)", strings.Join(claim.Addresses, ", "), claim.AddressKind)
	switch {
	case claim.ExternalName != "":
		return "alias of " + claim.ExternalName
	case claim.Headless:
		return "headless"
	case len(claim.Addresses) == 0:
		text = "no addresses"
	}
	if ports := shown(e, claim.Ports); ports != "" {
		text += " at " + ports
	}
	return text
}

// shown is ports for who asks for services, each as NAME/PROTOCOL NUMBER.
func shown(e explain.Explanation, ports []explain.Port) string {
	if !slices.Contains(e.Types, "SRV") {
		return ""
	}
	texts := make([]string, len(ports))
	for i, port := range ports {
		number := "any number"
		if port.Number != 0 {
			number = strconv.Itoa(int(port.Number))
		}
		texts[i] = cmp.Or(port.Name, "unnamed") + "/" + cmp.Or(port.Protocol, "unknown") + " " + number
	}
	return strings.Join(texts, ", ")
}

func created(claim explain.Claim) string {
	if claim.CreatedAt == nil {
		return ""
	}
	return "created " + claim.CreatedAt.Format(time.RFC3339)
}
