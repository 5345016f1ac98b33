package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

const redirectRecoverUsage = `meshvmctl redirect recover gives name resolution back that an earlier boot has left redirected, as after a power cut. A unit runs it
early at boot. It needs root.

Usage:
  meshvmctl redirect recover

Exit codes: 0 done, or there was nothing to do; 1 something could not be undone; 2 wrong usage.
`

func runRedirectRecover(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("meshvmctl redirect recover", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectRecoverUsage)
		return exitDone
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect recover: %v (see meshvmctl redirect recover --help)\n", err)
		return exitUsage
	}
	return recoverRedirect(ctx, redirect.Machine{}, stdout, stderr)
}

func recoverRedirect(ctx context.Context, machine redirect.Machine, stdout, stderr io.Writer) int {
	outcome, err := redirect.Recover(ctx, machine)
	warnRedirect(stderr, "recover", outcome)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect recover: %v%s\n", err, needsRoot(err))
		return exitRefused
	}
	if outcome.Changed {
		fmt.Fprintln(stdout, "what an earlier boot had redirected is given back")
	}
	return exitDone
}
