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

// redirectPlan is one look at what apply would do.
type redirectPlan struct {
	redirectWish
	server, output string
	zones          []string
	namespace      string
	machine        redirect.Machine
}

func (p *redirectPlan) declare(flags *pflag.FlagSet) {
	p.redirectWish.declare(flags)
	flags.StringVar(&p.server, "server", "", "where CoreDNS will listen, `IP:PORT`, while it does not run")
	flags.StringSliceVar(&p.zones, "zone", []string{"cluster.local"}, "`ZONE` of the mesh, with --server")
	flags.StringVar(&p.namespace, "namespace", "", "`NAMESPACE` of this machine, with --server")
	flags.StringVarP(&p.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const redirectPlanUsage = `meshvmctl redirect plan shows what apply would do on this machine, why so, and why not otherwise. It changes nothing, and needs no
rights but to ask CoreDNS; without CoreDNS say --server.

Usage:
  meshvmctl redirect plan [flags]

Exit codes: 0 there is a way; 1 there is none, or not the one that is asked for; 2 wrong usage, or CoreDNS cannot be asked.

Flags:
`

func runRedirectPlan(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var p redirectPlan
	flags := pflag.NewFlagSet("meshvmctl redirect plan", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	p.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectPlanUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		err = p.check(flags.Args())
	}
	if err == nil && p.output != "text" && p.output != "json" {
		err = fmt.Errorf("--output %q: want text or json", p.output)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect plan: %v (see meshvmctl redirect plan --help)\n", err)
		return exitUsage
	}
	wish, err := p.wish(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect plan: %v\n", err)
		return exitUsage
	}
	plan, err := decideRedirect(ctx, p.machine, wish)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect plan: %v\n", err)
		return exitRefused
	}
	if err := p.print(stdout, plan); err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect plan: write the answer: %v\n", err)
		return exitUsage
	}
	if plan.Mode == redirect.None && wish.Mode != redirect.None {
		return exitRefused
	}
	return exitDone
}

// wish is what CoreDNS says, or, without it, the command line.
func (p *redirectPlan) wish(ctx context.Context) (redirect.Wish, error) {
	if p.server == "" {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		wish, err := p.ask(asking)
		if err != nil {
			return redirect.Wish{}, fmt.Errorf("%w; while CoreDNS does not run, say --server", err)
		}
		return wish, nil
	}
	server, err := netip.ParseAddrPort(p.server)
	if err != nil {
		return redirect.Wish{}, fmt.Errorf("--server %q: want IP:PORT", p.server)
	}
	return redirect.Wish{
		Mode: redirect.Mode(p.mode), AllNames: p.allNames, Transparent: p.transparent,
		Server: server, Zones: p.zones, Namespace: p.namespace,
	}, nil
}

func (p *redirectPlan) print(w io.Writer, plan redirect.Plan) error {
	steps := redirect.Steps(plan)
	if p.output == "json" {
		return printJSON(w, struct {
			redirect.Plan
			Steps []string `json:"steps,omitempty"`
		}{plan, steps})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, text string) { fmt.Fprintf(table, "%s\t%s\n", name, plain(text)) }
	row("mode", string(plan.Mode)+": "+plan.Why)
	for _, rejected := range plan.Rejected {
		row("not", string(rejected.Mode)+": "+rejected.Why)
	}
	if plan.Mode != redirect.None || plan.Transparent {
		row("names", redirectedNames(&plan))
		if len(plan.Missed) > 0 {
			row("missed", strings.Join(plan.Missed, " "))
		}
		row("search", strings.Join(plan.Search, " "))
		var upstreams []string
		for _, upstream := range plan.Upstreams {
			upstreams = append(upstreams, upstream.String())
		}
		row("upstreams", strings.Join(upstreams, " "))
	}
	for _, step := range steps {
		row("step", step)
	}
	for _, warning := range plan.Warnings {
		row("warning", warning)
	}
	return table.Flush()
}
