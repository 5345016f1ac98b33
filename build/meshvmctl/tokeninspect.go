package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/bootstrap"
)

// inspection is a token file to be looked at.
type inspection struct {
	file, output string
	within       time.Duration
}

func (i *inspection) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.DurationVar(&i.within, "within", 0, "exit with 1 as well when the token ends within this time")
	flags.StringVarP(&i.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const inspectUsage = `meshvmctl token inspect says whose a token is, for whom and how long it is good. It asks nobody,
so it cannot tell whether the token was revoked, and it does not print the token.

Usage:
  meshvmctl token inspect FILE [flags]

Exit codes: 0 good, 1 expired, about to, or not good yet, 2 wrong usage, 3 no token can be read.

Flags:
`

func runTokenInspect(_ context.Context, args []string, stdout, stderr io.Writer) int {
	var i inspection
	flags := pflag.NewFlagSet("meshvmctl token inspect", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	i.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, inspectUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		err = i.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl token inspect: %v (see meshvmctl token inspect --help)\n", err)
		return exitUsage
	}
	claims, err := bootstrap.InspectToken(i.file)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl token inspect: %v\n", err)
		return exitUnreachable
	}
	now := time.Now()
	if err := i.print(stdout, claims, now); err != nil {
		fmt.Fprintf(stderr, "meshvmctl token inspect: write the answer: %v\n", err)
		return exitUnreachable
	}
	if !claims.IsValid(now, i.within) {
		return exitRefused
	}
	return exitDone
}

// check reports what is wrong with the command line, by flag.
func (i *inspection) check(args []string) error {
	switch {
	case len(args) != 1:
		return fmt.Errorf("want one FILE, got %d", len(args))
	case i.within < 0:
		return fmt.Errorf("--within %s: want nothing or more", i.within)
	case i.output != "text" && i.output != "json":
		return fmt.Errorf("--output %q: want text or json", i.output)
	}
	i.file = args[0]
	return nil
}

func (i *inspection) print(w io.Writer, claims bootstrap.Claims, now time.Time) error {
	if i.output == "json" {
		return printJSON(w, claims)
	}
	account := "none: " + claims.Subject
	if claims.Account != nil {
		account = claims.Account.String()
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "account\t%s\nissuer\t%s\naudience\t%s\n", account, claims.Issuer, strings.Join(claims.Audiences, ", "))
	if claims.NotBefore.After(now) {
		fmt.Fprintf(table, "begins\t%s\n", claims.NotBefore.Format(time.RFC3339))
	}
	switch {
	case claims.Expires.IsZero():
		fmt.Fprintln(table, "ends\tnever")
	case claims.Expires.After(now):
		fmt.Fprintf(table, "ends\t%s, in %s\n", claims.Expires.Format(time.RFC3339), claims.Expires.Sub(now).Round(time.Second))
	default:
		fmt.Fprintf(table, "ended\t%s, %s ago\n", claims.Expires.Format(time.RFC3339), now.Sub(claims.Expires).Round(time.Second))
	}
	return table.Flush()
}
