package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/doctor"
	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/deploy/vm/supportbundle"
	"github.com/meshvm/meshvm/plugin/status"
)

// supporting is an archive for who helps.
type supporting struct {
	machine     redirect.Machine
	out, socket string
	names       []string
	timeout     time.Duration
}

func (s *supporting) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&s.out, "out", "", "`FILE` to make (default meshvm-support-HOST-TIME.tar.gz here)")
	flags.StringSliceVar(&s.names, "explain", nil, "`NAME` to explain in it; may be repeated")
	flags.StringVar(&s.socket, "socket", status.DefaultSocket, "the `SOCKET` of CoreDNS with meshvm on this machine, as the Corefile's option status names it")
	flags.DurationVar(&s.timeout, "timeout", 2*time.Minute, "how long to gather at most")
}

const supportUsage = `meshvmctl support-bundle gathers what somebody who helps has to know about this VM into one archive, and prints what is in it.

Usage:
  meshvmctl support-bundle [--out FILE.tar.gz] [--explain NAME] [flags]

Tokens, keys and the registry's snapshot are not in it, and what looks like a secret is taken out of the rest. Look through it all the
same before you send it: names and addresses are in it. As root it has most. Only you may read the file.

Exit codes: 0 made, 2 wrong usage, or the file cannot be made.

Flags:
`

func runSupportBundle(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s supporting
	flags := pflag.NewFlagSet("meshvmctl support-bundle", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	s.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, supportUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.socket == "":
		err = errors.New("--socket is empty")
	case s.timeout <= 0:
		err = fmt.Errorf("--timeout %s: want more than nothing", s.timeout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl support-bundle: %v (see meshvmctl support-bundle --help)\n", err)
		return exitUsage
	}
	if s.out == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "vm"
		}
		s.out = fmt.Sprintf("meshvm-support-%s-%s.tar.gz", host, time.Now().UTC().Format("20060102T150405Z"))
	}
	return s.run(ctx, stdout, stderr)
}

func (s *supporting) run(ctx context.Context, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	contents, err := supportbundle.Create(ctx, s.out, s.items(), supportbundle.NewRedactor(s.secrets(ctx)...))
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl support-bundle: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stdout, "%s\n%s: look through it before you send it\n", contents, s.out)
	return exitDone
}

// secrets is the content of all files that have some.
func (s *supporting) secrets(ctx context.Context) [][]byte {
	var files []string
	// Without a status there are those in the usual places.
	if report, err := status.Ask(ctx, s.socket); err == nil {
		for _, mirror := range report.Mirrors {
			for _, credential := range mirror.Credentials {
				if credential.Kind == "token" {
					files = append(files, credential.File)
				}
			}
		}
	}
	return supportbundle.Secrets(s.machine, files...)
}

// items is what CoreDNS and this program say, then what the machine does.
func (s *supporting) items() []supportbundle.Item {
	items := []supportbundle.Item{
		{Name: "version.txt", About: "the version of this program", Collect: func(context.Context) ([]byte, error) { return []byte("meshvmctl " + version + "\n"), nil }},
		{Name: "status.json", About: "how the mirrors stand", Collect: func(ctx context.Context) ([]byte, error) {
			report, err := status.Ask(ctx, s.socket)
			if err != nil {
				return nil, err
			}
			return json.MarshalIndent((&vmStatus{machine: s.machine}).view(report), "", "  ")
		}},
		{Name: "redirect.json", About: "how the redirect stands", Collect: func(context.Context) ([]byte, error) {
			standing, err := redirect.Stand(s.machine)
			if err != nil {
				return nil, err
			}
			return json.MarshalIndent(standing, "", "  ")
		}},
	}
	for i, name := range s.names {
		items = append(items, supportbundle.Item{
			Name: fmt.Sprintf("explain-%d.json", i+1), About: "the way of " + plain(name),
			Collect: func(ctx context.Context) ([]byte, error) {
				x := explaining{machine: s.machine, socket: s.socket, output: "json", timeout: s.timeout}
				if err := x.check([]string{name}); err != nil {
					return nil, err
				}
				journey, err := x.ask(ctx)
				if err != nil {
					return nil, err
				}
				return json.MarshalIndent(journey, "", "  ")
			},
		})
	}
	items = append(items, supportbundle.Item{Name: "doctor.txt", About: "what meshvmctl doctor finds", Collect: func(ctx context.Context) ([]byte, error) {
		var said bytes.Buffer
		err := printDoctor(&said, doctor.Run(ctx, doctor.Machine{
			Root: s.machine.Root, Run: s.machine.Run,
			Report: func(ctx context.Context) (status.Report, error) { return status.Ask(ctx, s.socket) },
		}))
		return said.Bytes(), err
	}})
	for _, item := range supportbundle.MachineItems(s.machine) {
		item.Name = strings.TrimPrefix(item.Name, "/")
		items = append(items, item)
	}
	return items
}
