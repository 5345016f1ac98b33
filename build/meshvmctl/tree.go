package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// invocation is one command line.
type invocation struct {
	stdout, stderr io.Writer
	// completes has a shell asked what may follow. Cobra reads flags only then: commands parse their own, so that each
	// says by itself what is wrong with its command line, and in one line.
	completes bool
	code      int
}

// run is the whole command.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	i := &invocation{stdout: &terminal{to: stdout, colours: coloured(stdout)}, stderr: &terminal{to: stderr}}
	i.completes = len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
	root := i.tree()
	root.SetArgs(append([]string{}, args...)) // nil would be those of the process
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(i.stderr, "meshvmctl: %v (see meshvmctl help)\n", err)
		return exitUsage
	}
	return i.code
}

// tree is meshvmctl with all its commands.
func (i *invocation) tree() *cobra.Command {
	root := i.cobra("", command{name: "meshvmctl", summary: "look into the DNS of a service mesh, and have VMs join it", commands: commands(), run: i.runRoot})
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(i.stdout)
	root.SetErr(i.stderr)
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			root.SetHelpCommand(c)
		}
	}
	return root
}

// cobra is a command with those below it.
func (i *invocation) cobra(parent string, c command) *cobra.Command {
	path := strings.TrimSpace(parent + " " + c.name)
	made := &cobra.Command{
		Use:                c.name,
		Short:              c.summary,
		Args:               cobra.ArbitraryArgs,
		ValidArgsFunction:  c.arguments,
		DisableFlagParsing: !i.completes,
		SilenceErrors:      true,
		SilenceUsage:       true,
	}
	if c.arguments == nil {
		made.ValidArgsFunction = cobra.NoFileCompletions
	}
	if c.declare != nil {
		c.declare(made.Flags())
		completeFlags(made)
	}
	for _, below := range c.commands {
		made.AddCommand(i.cobra(path, below))
	}
	run := c.runs(path)
	made.RunE = func(done *cobra.Command, args []string) error {
		i.code = run(done.Context(), args, i.stdout, i.stderr)
		return nil
	}
	return made
}

// runRoot runs what no command was found for.
func (i *invocation) runRoot(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 0:
		fmt.Fprintln(stderr, "meshvmctl: want a command (see meshvmctl help)")
		return exitUsage
	case args[0] == "-h" || args[0] == "--help":
		return runHelp(ctx, args[1:], stdout, stderr)
	case args[0] == "--version":
		return runVersion(ctx, args[1:], stdout, stderr)
	}
	fmt.Fprintf(stderr, "meshvmctl: unknown command %q%s (see meshvmctl help)\n", args[0], suggestion(commands(), args[0]))
	return exitUsage
}

// runs is what a command does: by itself, or by those below it.
func (c command) runs(path string) func(context.Context, []string, io.Writer, io.Writer) int {
	if c.run == nil {
		return group(path, c)
	}
	return c.run
}

// group runs a command that only has others below it.
func group(path string, c command) func(context.Context, []string, io.Writer, io.Writer) int {
	return func(_ context.Context, args []string, stdout, stderr io.Writer) int {
		switch {
		case asksHelp(args):
			fmt.Fprintf(stdout, "%s: %s.\n\nUsage:\n  %s COMMAND [flags]\n\n", path, c.summary, path)
			printCommands(stdout, c.commands)
			fmt.Fprintf(stdout, "\n%s COMMAND --help tells more about one.\n", path)
			return exitDone
		case len(args) == 0:
			fmt.Fprintf(stderr, "%s: want a command: %s\n", path, strings.Join(namesOf(c.commands), ", "))
		default:
			fmt.Fprintf(stderr, "%s: unknown command %q%s (see %s --help)\n", path, args[0], suggestion(c.commands, args[0]), path)
		}
		return exitUsage
	}
}

func namesOf(commands []command) []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	return names
}

// suggestion is what was meant, perhaps.
func suggestion(commands []command, typed string) string {
	all := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, c := range commands {
		all.AddCommand(&cobra.Command{Use: c.name, Run: func(*cobra.Command, []string) {}})
	}
	if near := all.SuggestionsFor(typed); len(near) > 0 {
		return ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}
