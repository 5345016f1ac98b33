package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/join"
)

// joining is a VM that is to join the mesh.
type joining struct {
	from    string
	wish    join.Wish
	machine join.Machine
}

func (j *joining) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.BoolVar(&j.wish.NoRedirect, "no-redirect", false, "only run CoreDNS: leave whom this machine asks for names as it is")
	flags.DurationVar(&j.wish.Wait, "timeout", 2*time.Minute, "how long to wait until the mesh answers")
	flags.StringVar(&j.machine.Root, "root", "", "`DIR` with the file system of an image, which joins when it is booted; nothing is started")
}

const joinUsage = `meshvmctl join has this VM join the mesh with a bundle of meshvmctl bootstrap. The package of meshvm is installed, and you are root.

Usage:
  meshvmctl join DIR|FILE.tar.gz [flags]

The bundle is checked and put into /etc/meshvm; a Corefile that it replaces is kept as Corefile.old. CoreDNS is started, now and
at every boot, and once it is in step with the syncer the VM asks it for names. If anything fails, all is put back: the VM
resolves names as before. To join again does no harm.

Exit codes: 0 joined, 1 not joined, and all is as it was, 2 wrong usage.

Flags:
`

func runJoin(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var j joining
	flags := pflag.NewFlagSet("meshvmctl join", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	j.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, joinUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		err = j.check(flags.Args(), flags.Changed("root"))
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl join: %v (see meshvmctl join --help)\n", err)
		return exitUsage
	}
	outcome, err := j.join(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl join: %v%s\nnothing has changed for good: this machine resolves names as before\n", err, needsRoot(err))
		return exitRefused
	}
	if err := j.print(stdout, outcome); err != nil {
		fmt.Fprintf(stderr, "meshvmctl join: joined, but write the answer: %v\n", err)
		return exitRefused
	}
	return exitDone
}

// check reports what is wrong with the command line, by flag.
func (j *joining) check(args []string, root bool) error {
	switch {
	case len(args) != 1:
		return fmt.Errorf("want one DIR or FILE.tar.gz, got %d", len(args))
	case j.wish.Wait <= 0:
		return fmt.Errorf("--timeout %s: want more than nothing", j.wish.Wait)
	case root && j.machine.Root == "":
		return errors.New("--root is empty")
	}
	j.from = args[0]
	return nil
}

func (j *joining) join(ctx context.Context) (join.Outcome, error) {
	bundle, err := join.Read(j.from)
	if err != nil {
		return join.Outcome{}, err
	}
	if err := j.machine.Check(bundle, time.Now()); err != nil {
		return join.Outcome{}, err
	}
	if err := j.machine.CheckPackage(); err != nil {
		return join.Outcome{}, err
	}
	if j.machine.Root == "" && os.Geteuid() != 0 {
		return join.Outcome{}, errors.New("this needs root")
	}
	return j.machine.Join(ctx, bundle, j.wish)
}

func (j *joining) print(w io.Writer, o join.Outcome) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	files := "as they were"
	if len(o.Changed) > 0 {
		files = strings.Join(o.Changed, " ")
	}
	row("files", files)
	if j.machine.Root != "" {
		row("joins", "when "+j.machine.Root+" is booted")
		return table.Flush()
	}
	for _, mirror := range o.Report.Mirrors {
		row("follows", fmt.Sprintf("%s, at revision %d with %d objects", mirror.ConnectedAddress, mirror.Revision, mirror.Resources))
	}
	if a := o.Answer; a.Name != "" {
		by := "CoreDNS"
		if a.ByMachine {
			by = "this machine"
		}
		row("answers", fmt.Sprintf("%s is %s, by %s", a.Name, strings.Join(a.Addresses, " "), by))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if j.wish.NoRedirect && !o.Standing.Applied {
		_, err := fmt.Fprintln(w, "\nnothing is redirected. To see what would be: meshvmctl redirect plan. To do it: meshvmctl join "+j.from)
		return err
	}
	return printStanding(w, o.Standing)
}
