package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/doctor"
	"github.com/meshvm/meshvm/plugin/status"
)

// diagnosis is which process on this machine is looked at.
type diagnosis struct{ socket, output string }

func (d *diagnosis) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&d.socket, "socket", status.DefaultSocket, "the `SOCKET` of CoreDNS with meshvm on this machine, as the Corefile's option status names it")
	flags.StringVarP(&d.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const doctorUsage = `meshvmctl doctor looks, on a VM, for what is in the way of its names, and says what to do about each thing. It changes nothing, and
takes ten seconds at most. As root it sees more.

Usage:
  meshvmctl doctor [--socket SOCKET] [flags]

Exit codes: 0 there is no problem, though there may be warnings; 1 there is one; 2 wrong usage.

Flags:
`

func runDoctor(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var d diagnosis
	flags := pflag.NewFlagSet("meshvmctl doctor", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	d.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, doctorUsage+flags.FlagUsagesWrapped(100))
		return exitFound
	}
	if err == nil {
		err = d.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl doctor: %v (see meshvmctl doctor --help)\n", err)
		return exitUsage
	}
	findings := doctor.Run(ctx, doctor.Machine{Report: func(ctx context.Context) (status.Report, error) { return status.Ask(ctx, d.socket) }})
	if err := d.print(stdout, findings); err != nil {
		fmt.Fprintf(stderr, "meshvmctl doctor: write the answer: %v\n", err)
		return exitUsage
	}
	if doctor.Worst(findings) == doctor.Problem {
		return exitNotFound
	}
	return exitFound
}

// check reports what is wrong with the command line, by flag.
func (d *diagnosis) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case d.socket == "":
		return errors.New("--socket is empty")
	case d.output != "text" && d.output != "json":
		return fmt.Errorf("--output %q: want text or json", d.output)
	}
	return nil
}

func (d *diagnosis) print(w io.Writer, findings []doctor.Finding) error {
	if d.output == "json" {
		return printJSON(w, findings)
	}
	return printDoctor(w, findings)
}
