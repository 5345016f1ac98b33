// Command meshvm-syncer keeps the registry of the mesh, from a Kubernetes cluster or a folder of
// manifests, and streams it to the VMs that may see it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

// Exit codes.
const (
	exitDone  = 0
	exitFault = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// From the first signal on, a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole command. It ends when the context does.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	settings, err := parse(args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "meshvm-syncer: %v\n", err)
		return exitUsage
	case settings.help:
		fmt.Fprint(stdout, settings.usage)
		return exitDone
	case settings.version:
		fmt.Fprintf(stdout, "meshvm-syncer %s\n", version)
		return exitDone
	}
	log := settings.newLog(stderr)
	if err := serve(ctx, settings, log); err != nil {
		log.Error("stopped", "error", err)
		return exitFault
	}
	log.Info("stopped")
	return exitDone
}
