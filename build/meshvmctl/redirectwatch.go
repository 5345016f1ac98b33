package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

const redirectWatchUsage = `meshvmctl redirect watch keeps a redirect that was applied, until a signal: CoreDNS forwards to the resolvers that this machine's
networks have, what others overwrite is applied again, and while CoreDNS does not answer name resolution is this machine's own. Its
flags are those of apply. It needs root.

Usage:
  meshvmctl redirect watch [flags]

Exit codes: 0 it was told to end; 1 it cannot watch; 2 wrong usage.

Flags:
`

func runRedirectWatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var w redirectWish
	flags := pflag.NewFlagSet("meshvmctl redirect watch", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	w.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectWatchUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		err = w.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect watch: %v (see meshvmctl redirect watch --help)\n", err)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	err = redirect.Watch(ctx, redirect.Machine{}, redirect.Keeping{
		Wish: func(ctx context.Context) (redirect.Wish, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return w.ask(ctx)
		},
		Tell: func(state string) {
			if _, err := daemon.SdNotify(false, state); err != nil {
				log.Warn("the service manager is not told", "error", err)
			}
		},
		Log: log,
	})
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect watch: %v\n", err)
		return exitRefused
	}
	return exitDone
}
