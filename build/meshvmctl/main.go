// Command meshvmctl shows operators what the mesh's registry answers, and why, and makes what VMs need to join.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/pflag"
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
	// run does it, with what follows the name on the command line, and returns the exit code. With --help alone it
	// prints what the command's manual page is made of. Nil: there are only commands.
	run func(ctx context.Context, args []string, stdout, stderr io.Writer) int
	// declare names the flags, those that run parses. Nil: there are none.
	declare func(flags *pflag.FlagSet)
	// arguments are what shells complete. Nil: nothing.
	arguments completion
	// commands are those below it.
	commands []command
}

// commands are in the order in which help lists them.
func commands() []command {
	return []command{
		{name: "lookup", summary: "show what the registry answers for a name, from which object and why", run: runLookup, declare: new(lookup).declare},
		{name: "vips", summary: "list the virtual IPs of hosts, who has them and which rest", run: runVIPs, declare: new(vips).declare},
		{name: "bootstrap", summary: "write what a VM needs to join: Corefile, authority and token", run: runBootstrap, declare: new(boot).declare},
		{name: "join", summary: "have this VM join the mesh with what bootstrap wrote", run: runJoin, declare: new(joining).declare, arguments: completeFiles},
		{name: "token", summary: "renew the token of a VM, or say how long one is good", run: runToken, declare: new(renewal).declare, commands: []command{
			{name: "inspect", summary: "say whose a token is, for whom and how long it is good", run: runTokenInspect, declare: new(inspection).declare, arguments: completeFiles},
		}},
		{name: "doctor", summary: "look for what is in the way of this VM's names, with a remedy each", run: runDoctor, declare: new(diagnosis).declare},
		{name: "status", summary: "show how this VM stands: whom it follows, when its credentials end, what to do", run: runStatus, declare: new(vmStatus).declare},
		{name: "explain", summary: "show each step that a query for a name takes on this VM, and why it ends so", run: runExplain, declare: new(explaining).declare},
		{name: "support-bundle", summary: "gather what somebody who helps has to know about this VM, without secrets", run: runSupportBundle, declare: new(supporting).declare},
		{name: "export", summary: "write this VM's names for a way to resolve them that has no mesh", run: runExport, declare: new(exporting).declare},
		{name: "import", summary: "turn a hosts file, or dnsmasq's configuration, into ServiceEntries", run: runImport, declare: new(importing).declare, arguments: completeFiles},
		{name: "queues", summary: "make room for queries that wait while CoreDNS is restarted", run: runQueues, declare: new(queues).declare},
		{name: "redirect", summary: "have this VM ask CoreDNS for names, and give resolution back", commands: redirectCommands()},
		{name: "completion", summary: "print what makes a shell complete the commands and flags of meshvmctl", run: runCompletion, arguments: completeOf(shells()...)},
		{name: "version", summary: "print the version", run: runVersion},
		{name: "help", summary: "print this help", run: runHelp},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func runVersion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	if asksHelp(args) {
		fmt.Fprint(stdout, "meshvmctl version prints the version.\n\nUsage:\n  meshvmctl version\n\nExit codes: 0 printed, 2 wrong usage.\n")
		return exitDone
	}
	if len(args) > 0 {
		fmt.Fprintf(stderr, "meshvmctl version: unexpected argument %q\n", args[0])
		return exitUsage
	}
	fmt.Fprintf(stdout, "meshvmctl %s\n", version)
	return exitFound
}

func runHelp(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && !asksHelp(args) {
		return helpOn(ctx, args, stdout, stderr)
	}
	fmt.Fprint(stdout, "meshvmctl shows what the mesh's registry answers, and why, and makes what VMs need to join.\n\nUsage:\n  meshvmctl COMMAND [flags]\n\n")
	printCommands(stdout, commands())
	fmt.Fprint(stdout, "\nmeshvmctl COMMAND --help tells more about one.\n")
	return exitFound
}

// helpOn prints the help of the command that has these names.
func helpOn(ctx context.Context, names []string, stdout, stderr io.Writer) int {
	path, c := "meshvmctl", command{commands: commands()}
	for _, name := range names {
		i := slices.IndexFunc(c.commands, func(below command) bool { return below.name == name })
		if i < 0 {
			fmt.Fprintf(stderr, "meshvmctl help: %s has no command %q%s\n", path, name, suggestion(c.commands, name))
			return exitUsage
		}
		path, c = path+" "+name, c.commands[i]
	}
	return c.runs(path)(ctx, []string{"--help"}, stdout, stderr)
}

func asksHelp(args []string) bool {
	return len(args) == 1 && (args[0] == "--help" || args[0] == "-h")
}

func printCommands(w io.Writer, commands []command) {
	fmt.Fprintln(w, "Commands:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(table, "  %s\t%s\n", c.name, c.summary)
	}
	table.Flush()
}
