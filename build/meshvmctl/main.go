// Command meshvmctl shows operators what the mesh's registry answers, and why, and makes what VMs need to join.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
)

// version is set by the linker.
var version = "dev"

// Exit codes. For commands that look for nothing they are done and refused.
const (
	exitFound       = 0
	exitDone        = exitFound
	exitNotFound    = 1
	exitRefused     = exitNotFound
	exitUsage       = 2
	exitUnreachable = 3
)

// command is one thing that meshvmctl does.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

// commands are in the order in which help lists them.
func commands() []command {
	return []command{
		{"lookup", "show what the registry answers for a name, from which object and why", runLookup},
		{"vips", "list the virtual IPs of hosts, who has them and which rest", runVIPs},
		{"bootstrap", "write what a VM needs to join: Corefile, authority and token", runBootstrap},
		{"token", "renew the token of a VM, or say how long one is good", runToken},
		{"status", "show how this VM stands: whom it follows, when its credentials end, what to do", runStatus},
		{"queues", "make room for queries that wait while CoreDNS is restarted", runQueues},
		{"redirect", "have this VM ask CoreDNS for names, and give resolution back", runRedirect},
		{"version", "print the version", runVersion},
		{"help", "print this help", runHelp},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole command.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stdout, stderr = &terminal{to: stdout}, &terminal{to: stderr}
	if len(args) == 0 {
		fmt.Fprintln(stderr, "meshvmctl: want a command (see meshvmctl help)")
		return exitUsage
	}
	name := args[0]
	switch name {
	case "-h", "--help":
		name = "help"
	case "--version":
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "meshvmctl: unknown command %q (see meshvmctl help)\n", args[0])
	return exitUsage
}

func runVersion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		fmt.Fprintf(stderr, "meshvmctl version: unexpected argument %q\n", args[0])
		return exitUsage
	}
	fmt.Fprintf(stdout, "meshvmctl %s\n", version)
	return exitFound
}

func runHelp(_ context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		fmt.Fprintf(stderr, "meshvmctl help: unexpected argument %q; try meshvmctl %s --help\n", args[0], args[0])
		return exitUsage
	}
	fmt.Fprint(stdout, "meshvmctl shows what the mesh's registry answers, and why, and makes what VMs need to join.\n\nUsage:\n  meshvmctl COMMAND [flags]\n\nCommands:\n")
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(table, "  %s\t%s\n", c.name, c.summary)
	}
	table.Flush()
	fmt.Fprint(stdout, "\nmeshvmctl COMMAND --help tells more about one.\n")
	return exitFound
}
