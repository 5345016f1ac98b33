package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/syncer/vip"
)

// completion is what shells complete arguments, or the value of a flag, with.
type completion = cobra.CompletionFunc

// completeFiles completes with names of files.
func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// completeDirectories completes with names of directories.
func completeDirectories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeOf completes one word out of several.
func completeOf(words ...string) completion {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// flagValues are the words that flags take, in every command that has a flag of that name.
func flagValues() map[string][]string {
	var states []string
	for _, state := range vip.States() {
		states = append(states, string(state))
	}
	var modes []string
	for _, mode := range []redirect.Mode{
		redirect.Delegate, redirect.Resolved, redirect.NetworkManager, redirect.Resolvconf, redirect.Openresolv, redirect.Direct, redirect.None,
	} {
		modes = append(modes, string(mode))
	}
	return map[string][]string{
		"output": {"text", "json"},
		"type":   recordTypes,
		"state":  states,
		"mode":   modes,
		"format": {"hosts", "dnsmasq", "json"},
	}
}

// completeFlags has the values of a command's flags completed: with words where there are only some, and else with what
// the placeholder of the flag's value says it is.
func completeFlags(c *cobra.Command) {
	values := flagValues()
	c.Flags().VisitAll(func(flag *pflag.Flag) {
		placeholder, plain := pflag.UnquoteUsage(flag)
		flag.Usage = plain
		complete := cobra.NoFileCompletions
		switch words, known := values[flag.Name]; {
		case known:
			complete = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return words, cobra.ShellCompDirectiveNoFileComp
			}
		case strings.HasSuffix(placeholder, "DIR"):
			complete = completeDirectories
		case strings.HasSuffix(placeholder, "FILE"), strings.HasSuffix(placeholder, "SOCKET"):
			complete = completeFiles
		}
		if err := c.RegisterFlagCompletionFunc(flag.Name, complete); err != nil {
			panic(err) // the flag is there, and nobody else has registered anything for it
		}
	})
}

func shells() []string { return []string{"bash", "zsh", "fish"} }

const completionUsage = `meshvmctl completion prints what makes a shell complete the commands and flags of meshvmctl.

Usage:
  meshvmctl completion bash|zsh|fish

The package of a VM installs it. Elsewhere, put it where the shell looks for it:
  meshvmctl completion bash >/etc/bash_completion.d/meshvmctl
  meshvmctl completion zsh >"${fpath[1]}/_meshvmctl"
  meshvmctl completion fish >~/.config/fish/completions/meshvmctl.fish

Exit codes: 0 printed, 1 not written, 2 wrong usage.
`

func runCompletion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	if asksHelp(args) {
		fmt.Fprint(stdout, completionUsage)
		return exitDone
	}
	if len(args) != 1 {
		fmt.Fprintf(stderr, "meshvmctl completion: want one of %s (see meshvmctl completion --help)\n", strings.Join(shells(), ", "))
		return exitUsage
	}
	var err error
	root := (&invocation{completes: true, stdout: stdout, stderr: stderr}).tree()
	switch args[0] {
	case "bash":
		err = root.GenBashCompletionV2(stdout, true)
	case "zsh":
		err = root.GenZshCompletion(stdout)
	case "fish":
		err = root.GenFishCompletion(stdout, true)
	default:
		fmt.Fprintf(stderr, "meshvmctl completion: unknown shell %q: want %s\n", args[0], strings.Join(shells(), ", "))
		return exitUsage
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl completion: write it: %v\n", err)
		return exitRefused
	}
	return exitDone
}
