package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/syncer/vip"
)

// vips is which virtual IPs are asked for, and of whom.
type vips struct {
	host, output string
	port         httpPort
	states       []string
	timeout      time.Duration
}

// maxTable bounds what is read of a table, in bytes: some 65,000 hosts with the longest names there are.
const maxTable = 64 << 20

func (v *vips) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&v.port.address, "http", "", "the syncer's HTTP `ADDR`ess (HOST:15055)")
	flags.StringVar(&v.port.caFile, "tls-ca-file", "", "PEM `FILE` of the authorities that the syncer's certificate comes from, with --http https://...")
	flags.StringVar(&v.port.serverName, "tls-server-name", "", "`NAME` expected in the syncer's certificate, with --http https://...")
	flags.StringSliceVar(&v.states, "state", nil, "list only hosts in these `STATES`, separated by commas: "+vip.JoinStates(vip.States()))
	flags.DurationVar(&v.timeout, "timeout", 30*time.Second, "how long to wait for the syncer")
	flags.StringVarP(&v.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const vipsUsage = `meshvmctl vips lists the virtual IPs of ServiceEntry hosts.

Usage:
  meshvmctl vips --http ADDR [flags]         all hosts
  meshvmctl vips HOST --http ADDR [flags]    one host, by its name or as *.NAME

States:
  assigned    every ServiceEntry of the host has its addresses
  pending     one of them has none yet
  quarantine  nobody claims the host any more, and its addresses rest
  conflict    another host has one of the addresses as well
  several     the host's ServiceEntries have different addresses
  exhausted   there is no address left to give

Exit codes: 0 at least one host is listed, 1 there is none, 2 wrong usage, 3 the syncer cannot be asked.

Flags:
`

func runVIPs(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var v vips
	flags := pflag.NewFlagSet("meshvmctl vips", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	v.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, vipsUsage+flags.FlagUsagesWrapped(100))
		return exitFound
	}
	if err == nil {
		err = v.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl vips: %v (see meshvmctl vips --help)\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	table, err := v.ask(ctx)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "meshvmctl vips: %v\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "meshvmctl vips: %v\n", err)
		return exitUnreachable
	}
	if err := v.print(stdout, table); err != nil {
		fmt.Fprintf(stderr, "meshvmctl vips: write the answer: %v\n", err)
		return exitUnreachable
	}
	if len(table.Hosts) == 0 {
		if v.output == "text" {
			fmt.Fprintln(stderr, "meshvmctl vips: no such host has virtual IPs, or is due any")
		}
		return exitNotFound
	}
	return exitFound
}

// check reports what is wrong with the command line, by flag.
func (v *vips) check(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("want one HOST at most, got %d", len(args))
	}
	if len(args) == 1 {
		if v.host = strings.ToLower(strings.TrimSuffix(args[0], ".")); v.host == "" {
			return errors.New("HOST is empty")
		}
	}
	switch {
	case v.port.address == "":
		return errors.New("want --http")
	case v.output != "text" && v.output != "json":
		return fmt.Errorf("--output %q: want text or json", v.output)
	case v.timeout <= 0:
		return fmt.Errorf("--timeout %s: want more than nothing", v.timeout)
	}
	if err := v.port.check(); err != nil {
		return err
	}
	for _, state := range v.states {
		if !slices.Contains(vip.States(), vip.State(state)) {
			return fmt.Errorf("--state %q: want %s", state, vip.JoinStates(vip.States()))
		}
	}
	return nil
}

// ask asks a syncer's /debug/vips.
func (v *vips) ask(ctx context.Context) (vip.Table, error) {
	query := url.Values{}
	if v.host != "" {
		query.Set("host", v.host)
	}
	if len(v.states) > 0 {
		query.Set("state", strings.Join(v.states, ","))
	}
	var table vip.Table
	if err := v.port.ask(ctx, "vips", query, maxTable, &table); err != nil {
		return vip.Table{}, err
	}
	slices.SortStableFunc(table.Hosts, func(a, b vip.Row) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(string(a.State), string(b.State)))
	})
	return table, nil
}

func (v *vips) print(w io.Writer, table vip.Table) error {
	if v.output == "json" {
		return printJSON(w, table)
	}
	return printVIPs(w, table, time.Now())
}
