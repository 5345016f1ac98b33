package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/service/queue"
)

// defaultQueue holds some ten thousand queries: five seconds of two thousand.
const defaultQueue = 8 << 20

// queues is the room to be made, and by whom.
type queues struct {
	socket string
	bytes  int
}

func (q *queues) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&q.socket, "socket", "/run/meshvm/queue.sock", "`SOCKET` at which CoreDNS offers its own")
	flags.IntVar(&q.bytes, "bytes", defaultQueue, "room of each UDP socket, in `BYTES` as the kernel counts them: about 768 a query")
}

const queuesUsage = `meshvmctl queues makes room for the queries that wait while CoreDNS is restarted. The unit of CoreDNS runs it.

Usage:
  meshvmctl queues [flags]

It needs to be root. Exit codes: 0 done; 1 the service or the kernel refuses; 2 wrong usage.

Flags:
`

func runQueues(_ context.Context, args []string, stdout, stderr io.Writer) int {
	var q queues
	flags := pflag.NewFlagSet("meshvmctl queues", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	q.declare(flags)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdout, queuesUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case err == nil && q.bytes <= 0:
		err = fmt.Errorf("--bytes %d: want more than nothing", q.bytes)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl queues: %v (see meshvmctl queues --help)\n", err)
		return exitUsage
	}
	widened, err := queue.Widen(q.socket, q.bytes)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl queues: %v\n", err)
		return exitRefused
	}
	fmt.Fprintf(stdout, "UDP sockets of CoreDNS that hold %d bytes of queries while it restarts: %d\n", q.bytes, widened)
	return exitDone
}
