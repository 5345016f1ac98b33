package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/service/queue"
)

// defaultQueue holds some ten thousand queries: five seconds of two thousand.
const defaultQueue = 8 << 20

const queuesUsage = `meshvmctl queues makes room for the queries that wait while CoreDNS is restarted. The unit of CoreDNS runs it.

Usage:
  meshvmctl queues PID [flags]

It needs to be root, and Linux 5.6. Exit codes: 0 done; 1 refused by the kernel; 2 wrong usage.

Flags:
`

func runQueues(_ context.Context, args []string, stdout, stderr io.Writer) int {
	var bytes int
	var ports []int
	flags := pflag.NewFlagSet("meshvmctl queues", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.IntVar(&bytes, "bytes", defaultQueue, "room of each UDP socket, in `BYTES` as the kernel counts them: about 768 a query")
	flags.IntSliceVar(&ports, "port", nil, "`PORT` that DNS is served at, where it is not below 1024")
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, queuesUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	var pid int
	if err == nil {
		pid, err = checkQueues(flags.Args(), bytes)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl queues: %v (see meshvmctl queues --help)\n", err)
		return exitUsage
	}
	widened, err := queue.Widen(pid, bytes, ports...)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl queues: %v\n", err)
		return exitRefused
	}
	fmt.Fprintf(stdout, "%d sockets of process %d hold %d bytes each\n", widened, pid, bytes)
	return exitDone
}

func checkQueues(args []string, bytes int) (pid int, err error) {
	if len(args) != 1 {
		return 0, fmt.Errorf("want one PID, got %d", len(args))
	}
	pid, err = strconv.Atoi(args[0])
	switch {
	case err != nil || pid <= 0:
		return 0, fmt.Errorf("PID %q: want the number of a process", args[0])
	case bytes <= 0:
		return 0, fmt.Errorf("--bytes %d: want more than nothing", bytes)
	}
	return pid, nil
}
