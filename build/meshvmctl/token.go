package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/bootstrap"
)

// renewal is a token to be requested.
type renewal struct {
	cluster clusterFlags
	token   tokenFlags
	out     string
}

const renewalDuration = "duration"

func (r *renewal) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	r.token.declare(flags, renewalDuration)
	flags.StringVar(&r.out, "out", "", "`FILE` to write the token into, whole; it keeps its mode and owner (default standard output)")
	r.cluster.declare(flags)
}

const renewalUsage = `meshvmctl token renews the token of a VM, and says how long one is good.

Usage:
  meshvmctl token --namespace NS --service-account SA [--out FILE] [flags]
  meshvmctl token inspect FILE [--within DURATION]    see meshvmctl token inspect --help

Commands:
  inspect  say whose a token is, for whom and how long it is good

A VM reads its token file again by itself: put the new token in its place by a rename. The
token goes to FILE or to standard output, everything else to standard error.

Exit codes: 0 written, 1 not written, 2 wrong usage, 3 the API server cannot be reached.

Flags:
`

func runToken(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var r renewal
	flags := pflag.NewFlagSet("meshvmctl token", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	r.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, renewalUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		err = r.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl token: %v (see meshvmctl token --help)\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, r.cluster.timeout)
	defer cancel()
	if err := r.renew(ctx, stdout, stderr); err != nil {
		return fail(stderr, "token", err)
	}
	return exitDone
}

// check reports what is wrong with the command line, by flag.
func (r *renewal) check(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: want flags only, or inspect FILE", args[0])
	}
	if err := r.token.check(renewalDuration); err != nil {
		return err
	}
	return r.cluster.check()
}

func (r *renewal) renew(ctx context.Context, stdout, stderr io.Writer) error {
	cluster, err := r.cluster.connect()
	if err != nil {
		return err
	}
	defer cluster.Close()
	if r.out != "" {
		if err := bootstrap.CheckTokenFile(r.out); err != nil {
			return err
		}
	}
	token, err := cluster.RequestToken(ctx, r.token.account, r.token.audience, r.token.duration)
	if err != nil {
		return err
	}
	now := time.Now()
	r.token.warnOfLife(stderr, "token", token, now)
	if r.out == "" {
		_, err = stdout.Write(token.File())
	} else {
		err = bootstrap.WriteToken(r.out, token)
	}
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	fmt.Fprintf(stderr, "meshvmctl token: token of ServiceAccount %s, for %s, good until %s\n", r.token.account, r.token.audience, until(token.Expires, now))
	return nil
}
