package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

const redirectRevertUsage = `meshvmctl redirect revert gives name resolution back to whoever owned it, who is asked to write its state anew.
It does the same after an apply that was killed, after a power cut, and when it was done before. It needs root.

Usage:
  meshvmctl redirect revert

Exit codes: 0 nothing is redirected any more; 1 something could not be put back, which stays remembered for the next revert; 2 wrong usage.
`

func runRedirectRevert(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("meshvmctl redirect revert", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectRevertUsage)
		return exitDone
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect revert: %v (see meshvmctl redirect revert --help)\n", err)
		return exitUsage
	}
	return revertRedirect(ctx, redirect.Machine{}, stdout, stderr)
}

func revertRedirect(ctx context.Context, machine redirect.Machine, stdout, stderr io.Writer) int {
	outcome, err := redirect.Revert(ctx, machine)
	warnRedirect(stderr, "revert", outcome)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "meshvmctl redirect revert: %v%s\n", err, needsRoot(err))
		return exitRefused
	case outcome.Changed:
		fmt.Fprintln(stdout, "name resolution is this machine's own again")
	default:
		fmt.Fprintln(stdout, "nothing was redirected")
	}
	return exitDone
}

func warnRedirect(stderr io.Writer, command string, outcome redirect.Outcome) {
	for _, warning := range outcome.Warnings {
		fmt.Fprintf(stderr, "meshvmctl redirect %s: warning: %s\n", command, warning)
	}
}

// needsRoot is said of an error that root would not have had.
func needsRoot(err error) string {
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return " (this needs root)"
	}
	return ""
}
