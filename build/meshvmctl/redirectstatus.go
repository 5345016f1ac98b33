package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

// redirectStanding is how a redirect that stands is shown.
type redirectStanding struct{ output string }

func (r *redirectStanding) declare(flags *pflag.FlagSet) {
	flags.StringVarP(&r.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const redirectStatusUsage = `meshvmctl redirect status shows what is redirected on this machine, and what of it is in force.

Usage:
  meshvmctl redirect status [flags]

Exit codes: 0 the redirect is in force; 1 nothing is redirected, the redirect is withdrawn since CoreDNS cannot answer, something of it is
missing, or others fight over it; 2 wrong usage, or what was changed cannot be told.

Flags:
`

func runRedirectStatus(_ context.Context, args []string, stdout, stderr io.Writer) int {
	var r redirectStanding
	flags := pflag.NewFlagSet("meshvmctl redirect status", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	r.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectStatusUsage+flags.FlagUsagesWrapped(100))
		return exitFound
	}
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case r.output != "text" && r.output != "json":
		err = fmt.Errorf("--output %q: want text or json", r.output)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect status: %v (see meshvmctl redirect status --help)\n", err)
		return exitUsage
	}
	return showRedirect(redirect.Machine{}, r.output, stdout, stderr)
}

func showRedirect(machine redirect.Machine, output string, stdout, stderr io.Writer) int {
	standing, err := redirect.Stand(machine)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect status: %v%s\n", err, needsRoot(err))
		return exitUsage
	}
	if output == "json" {
		err = printJSON(stdout, standing)
	} else {
		err = printStanding(stdout, standing)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect status: write the answer: %v\n", err)
		return exitUsage
	}
	if !standing.InForce {
		return exitNotFound
	}
	return exitFound
}

func printStanding(w io.Writer, s redirect.Standing) error {
	if !s.Applied {
		_, err := fmt.Fprintln(w, "nothing is redirected")
		return err
	}
	state := "in force since " + s.Since.UTC().Format(time.RFC3339)
	switch {
	case s.Withdrawn != "":
		state = "withdrawn " + s.Withdrawn
	case s.Fight != "":
		state = "fought over: " + s.Fight
	case len(s.Missing) > 0:
		state = "not in force"
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	row("redirect", state)
	for _, missing := range s.Missing {
		row("missing", missing)
	}
	row("mode", string(s.Plan.Mode)+": "+s.Plan.Why)
	row("server", s.Plan.Server.String())
	row("names", redirectedNames(s.Plan))
	if len(s.Plan.Missed) > 0 {
		row("missed", strings.Join(s.Plan.Missed, " "))
	}
	if len(s.Plan.Search) > 0 {
		row("search", strings.Join(s.Plan.Search, " "))
	}
	row("upstreams", joinAddresses(s.Plan.Upstreams))
	if s.Plan.Transparent {
		row("transparent", "yes, also for programs that ask a resolver of their own")
	}
	for _, warning := range s.Plan.Warnings {
		row("warning", warning)
	}
	return table.Flush()
}

// redirectedNames are those that CoreDNS is asked for.
func redirectedNames(p *redirect.Plan) string {
	if p.AllNames {
		return "all"
	}
	const shown = 10
	if more := len(p.Domains) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more domains", strings.Join(p.Domains[:shown], " "), more)
	}
	return strings.Join(p.Domains, " ")
}

func joinAddresses(addresses []netip.AddrPort) string {
	if len(addresses) == 0 {
		return "none known"
	}
	var names []string
	for _, a := range addresses {
		names = append(names, a.String())
	}
	return strings.Join(names, " ")
}
