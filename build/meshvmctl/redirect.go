package main

import (
	"context"
	"fmt"
	"io"
)

// redirectCommands are what meshvmctl redirect does, in the order in which its help lists them.
func redirectCommands() []command {
	return []command{
		{"plan", "show what apply would do on this machine, and why; changes nothing", runRedirectPlan},
		{"apply", "have this machine ask CoreDNS for names, once CoreDNS answers", runRedirectApply},
		{"revert", "give name resolution back", runRedirectRevert},
		{"status", "show what is redirected", runRedirectStatus},
		{"watch", "keep it so while networks and resolvers change, until a signal", runRedirectWatch},
		{"upstreams", "write the machine's own resolvers to the file that CoreDNS forwards by", runRedirectUpstreams},
		{"recover", "undo what an earlier boot left behind", runRedirectRecover},
	}
}

func runRedirect(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "meshvmctl redirect: want a command: plan, apply, revert or status")
		return exitUsage
	}
	for _, c := range redirectCommands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "meshvmctl redirect: unknown command %q\n", args[0])
	return exitUsage
}
