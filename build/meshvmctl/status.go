package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

// vmStatus is which process on this machine is asked how it stands.
type vmStatus struct {
	machine        redirect.Machine
	socket, output string
	timeout        time.Duration
}

func (s *vmStatus) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&s.socket, "socket", status.DefaultSocket, "the `SOCKET` of CoreDNS with meshvm on this machine, as the Corefile's option status names it")
	flags.DurationVar(&s.timeout, "timeout", 10*time.Second, "how long to wait for the answer")
	flags.StringVarP(&s.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const statusUsage = `meshvmctl status shows, on a VM, whom it follows, how old its registry is, how names come to it, whom it asks for the rest, when its
credentials end and what to do.

Usage:
  meshvmctl status [--socket SOCKET] [flags]

Exit codes: 0 all is well; 1 no syncer is followed, the registry is stale or was never loaded, or a credential has ended or
cannot be read, or a redirect that was applied is not in force; 2 wrong usage, or nobody answers at the socket. A stream that is just being opened anew counts as none.

Flags:
`

func runStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s vmStatus
	flags := pflag.NewFlagSet("meshvmctl status", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	s.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, statusUsage+flags.FlagUsagesWrapped(100))
		return exitFound
	}
	if err == nil {
		err = s.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl status: %v (see meshvmctl status --help)\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	report, err := status.Ask(ctx, s.socket)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl status: %v\n", err)
		return exitUsage
	}
	shown := s.view(report)
	if err := s.print(stdout, shown); err != nil {
		fmt.Fprintf(stderr, "meshvmctl status: write the answer: %v\n", err)
		return exitUsage
	}
	if !shown.Healthy {
		return exitNotFound
	}
	return exitFound
}

// statusView is a Report with what this machine says besides. Later versions add fields and change none.
type statusView struct {
	status.Report
	// Redirect is how names come to CoreDNS. Its mode is none where nothing is redirected.
	Redirect *redirectView `json:"redirect,omitempty"`
	// Healthy is what the exit code says, and Faults why it is not, a sentence each.
	Healthy bool     `json:"healthy"`
	Faults  []string `json:"faults,omitempty"`
}

func (s *vmStatus) view(report status.Report) statusView {
	shown := statusView{Report: report}
	for _, mirror := range report.Mirrors {
		shown.Faults = append(shown.Faults, mirror.Faults(report.At)...)
	}
	view := reach(s.machine, viewOf(s.machine, "localhost"), report.Servers)
	shown.Redirect = &view
	// That who asks may not read how the redirect stands is no fault of the redirect, nor is that nobody has asked for one.
	if standing, err := redirect.Stand(s.machine); err == nil && standing.Applied && !view.InForce {
		shown.Faults = append(shown.Faults, "the redirect is "+view.State)
	}
	shown.Healthy = len(shown.Faults) == 0
	return shown
}

// check reports what is wrong with the command line, by flag.
func (s *vmStatus) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case s.socket == "":
		return errors.New("--socket is empty")
	case s.output != "text" && s.output != "json":
		return fmt.Errorf("--output %q: want text or json", s.output)
	case s.timeout <= 0:
		return fmt.Errorf("--timeout %s: want more than nothing", s.timeout)
	}
	return nil
}

func (s *vmStatus) print(w io.Writer, shown statusView) error {
	if s.output == "json" {
		return printJSON(w, shown)
	}
	return printStatus(w, shown)
}
