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
	"github.com/meshvm/meshvm/plugin/status"
)

// redirectWatch is one watch. What is wanted is in the State, by whoever applied it.
type redirectWatch struct {
	socket  string
	machine redirect.Machine
	// tell tells the service manager. Nil: by the socket that it has named.
	tell func(state string)
}

func (r *redirectWatch) declare(flags *pflag.FlagSet) {
	flags.StringVar(&r.socket, "socket", status.DefaultSocket, "the `SOCKET` of CoreDNS with meshvm on this machine, as the Corefile's option status names it")
}

const redirectWatchUsage = `meshvmctl redirect watch keeps a redirect that was applied, until a signal: CoreDNS forwards to the resolvers that this machine's
networks have, what others overwrite is applied again, and while CoreDNS does not answer name resolution is this machine's own.
Mode, --all-names and --transparent stay as the last apply was asked for, by whomever; another apply changes them. It needs root.

Usage:
  meshvmctl redirect watch [flags]

Exit codes: 0 it was told to end; 1 it cannot watch; 2 wrong usage.

Flags:
`

func runRedirectWatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return new(redirectWatch).run(ctx, args, stdout, stderr)
}

func (r *redirectWatch) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("meshvmctl redirect watch", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	r.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectWatchUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	wish := redirectWish{socket: r.socket}
	if err == nil {
		err = wish.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect watch: %v (see meshvmctl redirect watch --help)\n", err)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if r.tell == nil {
		r.tell = func(state string) {
			if _, err := daemon.SdNotify(false, state); err != nil {
				log.Warn("the service manager is not told", "error", err)
			}
		}
	}
	err = redirect.Watch(ctx, r.machine, redirect.Keeping{
		Wish: func(ctx context.Context) (redirect.Wish, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return wish.ask(ctx)
		},
		Tell: r.tell,
		Log:  log,
	})
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect watch: %v\n", err)
		return exitRefused
	}
	return exitDone
}
