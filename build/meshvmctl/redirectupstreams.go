package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

const redirectUpstreamsUsage = `meshvmctl redirect upstreams writes this machine's own resolvers to the file that CoreDNS forwards by. CoreDNS's unit runs it before
CoreDNS; afterwards meshvmctl redirect watch keeps the file up to date. It needs root.

Usage:
  meshvmctl redirect upstreams [flags]

Exit codes: 0 the file is written, if only with a resolver that does not answer, where none was ever known; 1 it cannot be written;
2 wrong usage.

Flags:
`

func runRedirectUpstreams(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("meshvmctl redirect upstreams", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	server := flags.String("server", "127.0.0.1:53", "where CoreDNS listens, `IP:PORT`, which is nobody's upstream")
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectUpstreamsUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	var listens netip.AddrPort
	if err == nil {
		if listens, err = netip.ParseAddrPort(*server); err != nil {
			err = fmt.Errorf("--server %q: want IP:PORT", *server)
		}
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect upstreams: %v (see meshvmctl redirect upstreams --help)\n", err)
		return exitUsage
	}
	upstreams, _, err := redirect.WriteUpstreams(ctx, redirect.Machine{}, listens)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect upstreams: %v%s\n", err, needsRoot(err))
		return exitRefused
	}
	if len(upstreams) == 0 {
		fmt.Fprintf(stderr, "meshvmctl redirect upstreams: warning: no resolver of this machine is known, so that only names of the mesh resolve\n")
	}
	for _, upstream := range upstreams {
		fmt.Fprintf(stdout, "CoreDNS forwards to %s\n", upstream.Addr())
	}
	return exitDone
}
