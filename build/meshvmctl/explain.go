package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

// explaining is one question about a name on this machine.
type explaining struct {
	machine          redirect.Machine
	name, recordType string
	socket, output   string
	timeout          time.Duration
}

func (x *explaining) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&x.recordType, "type", "", "record `TYPE`: A, AAAA, CNAME, PTR or SRV (default A; PTR for an address, SRV for _PORT._PROTOCOL.HOST)")
	flags.StringVar(&x.socket, "socket", status.DefaultSocket, "the `SOCKET` of CoreDNS with meshvm on this machine, as the Corefile's option status names it")
	flags.DurationVar(&x.timeout, "timeout", 10*time.Second, "how long to wait for the answer")
	flags.StringVarP(&x.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const explainUsage = `meshvmctl explain shows each step that a query for a name takes on this VM, and why it ends as it does.

Usage:
  meshvmctl explain NAME [--type TYPE] [flags]

A NAME without a dot at the end goes through the search list, as programs have it. Nothing is sent to anybody for it.

Exit codes: 0 answered, 1 no such name or record in the mesh, 2 wrong usage, 3 nobody answers at the socket.

Flags:
`

func runExplain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var x explaining
	flags := pflag.NewFlagSet("meshvmctl explain", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	x.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, explainUsage+flags.FlagUsagesWrapped(100))
		return exitFound
	}
	if err == nil {
		err = x.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl explain: %v (see meshvmctl explain --help)\n", err)
		return exitUsage
	}
	return x.run(ctx, stdout, stderr)
}

func (x *explaining) run(ctx context.Context, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	journey, err := x.ask(ctx)
	var refusal *status.Refusal
	switch {
	case errors.As(err, &refusal):
		fmt.Fprintf(stderr, "meshvmctl explain: %v\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "meshvmctl explain: %v\n", err)
		return exitUnreachable
	}
	if x.output == "json" {
		err = printJSON(stdout, journey)
	} else {
		err = printJourney(stdout, journey)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl explain: write the answer: %v\n", err)
		return exitUnreachable
	}
	if journey.Answer.Outcome != "answered" {
		return exitNotFound
	}
	return exitFound
}

// check reports what is wrong with the command line, by flag.
func (x *explaining) check(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one NAME, got %d", len(args))
	}
	x.name, x.recordType = strings.ToLower(args[0]), strings.ToUpper(x.recordType)
	switch _, valid := dns.StringToType[x.recordType]; {
	case strings.Trim(x.name, ".") == "":
		return errors.New("NAME is empty")
	case x.recordType != "" && !valid:
		return fmt.Errorf("--type %q: want a record type such as A, AAAA, CNAME, PTR or SRV", x.recordType)
	case x.socket == "":
		return errors.New("--socket is empty")
	case x.output != "text" && x.output != "json":
		return fmt.Errorf("--output %q: want text or json", x.output)
	case x.timeout <= 0:
		return fmt.Errorf("--timeout %s: want more than nothing", x.timeout)
	}
	address, err := netip.ParseAddr(x.name)
	switch {
	case err == nil && (x.recordType == "" || x.recordType == "PTR"):
		if x.name, err = dns.ReverseAddr(address.Unmap().WithZone("").String()); err != nil {
			return fmt.Errorf("NAME: %w", err)
		}
		x.recordType = "PTR"
	case x.recordType == "" && strings.HasPrefix(x.name, "_"):
		x.recordType = "SRV"
	case x.recordType == "":
		x.recordType = "A"
	}
	return nil
}

// journey is the way of a name from a program to its answer. Later versions add fields and change none.
type journey struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Library is what a program's resolver does, Redirect how queries come to CoreDNS.
	Library  libraryView  `json:"library"`
	Redirect redirectView `json:"redirect"`
	// Steps are the explanations of Library.Names, in order, up to the one that is answered.
	Steps []step `json:"steps"`
	// Answer is the step that counts: the answered one, else the name as it was given.
	Answer status.Explanation `json:"answer"`
}

// step is one of the names that are asked for.
type step struct {
	Name string `json:"name"`
	// Comes: a program's query for it comes to CoreDNS.
	Comes bool `json:"comes"`
	// Outcome and Reason are as in Answer.
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
}

func (x *explaining) ask(ctx context.Context) (journey, error) {
	j := journey{Name: x.name, Type: x.recordType, Library: viewOf(x.machine, x.name)}
	report, err := status.Ask(ctx, x.socket)
	if err != nil {
		return journey{}, err
	}
	j.Redirect = reach(x.machine, j.Library, report.Servers)
	bare := dns.Fqdn(x.name)
	for _, name := range j.Library.Names {
		e, err := status.Explain(ctx, x.socket, status.Question{Name: name, Type: x.recordType})
		if err != nil {
			return journey{}, err
		}
		j.Steps = append(j.Steps, step{Name: name, Comes: j.Redirect.comes(name), Outcome: e.Outcome, Reason: e.Reason})
		if e.Outcome == "answered" || name == bare {
			j.Answer = e
		}
		if e.Outcome == "answered" {
			break
		}
	}
	return j, nil
}
