package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// defaultSnapshot is where CoreDNS on a VM keeps what it knows, unless its Corefile says otherwise.
const defaultSnapshot = "/var/lib/meshvm/registry.snapshot"

// exporting is a snapshot that is to be written for another way to resolve names.
type exporting struct {
	format, snapshot, out string
}

func (e *exporting) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&e.format, "format", "hosts", "`FORMAT` to write: hosts, to be appended to /etc/hosts, or json")
	flags.StringVar(&e.snapshot, "snapshot", defaultSnapshot, "`FILE` that CoreDNS keeps the VM's names in")
	flags.StringVar(&e.out, "out", "", "`FILE` to write, whole or not at all; one that export did not write is left (default standard output)")
}

const exportUsage = `meshvmctl export writes the names that this VM answers for the mesh, and their addresses, for a way to resolve
names that has no mesh. It reads the snapshot of CoreDNS, which is at most seconds old, and asks nobody.

Usage:
  meshvmctl export [flags]

What a hosts file cannot say is in it as a comment: wildcards, names that are another's, names without an address.

Exit codes: 0 written, 2 wrong usage, 3 the snapshot cannot be read, or the file cannot be written.

Flags:
`

func runExport(_ context.Context, args []string, stdout, stderr io.Writer) int {
	var e exporting
	flags := pflag.NewFlagSet("meshvmctl export", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	e.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, exportUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		err = e.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl export: %v (see meshvmctl export --help)\n", err)
		return exitUsage
	}
	if err := e.run(stdout); err != nil {
		fmt.Fprintf(stderr, "meshvmctl export: %v\n", err)
		return exitUnreachable
	}
	return exitDone
}

func (e *exporting) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case e.format != "hosts" && e.format != "json":
		return fmt.Errorf("--format is %q: want hosts or json", e.format)
	case e.snapshot == "":
		return errors.New("--snapshot is empty: want the file that the Corefile names")
	}
	return nil
}

func (e *exporting) run(stdout io.Writer) error {
	copied := mirror.New(mirror.Options{})
	if err := copied.Read(e.snapshot); err != nil {
		return err
	}
	names := exportedNames(copied.State())
	write := func(to io.Writer) error {
		if e.format == "json" {
			return writeExportedJSON(to, copied, names)
		}
		return writeHosts(to, copied, names)
	}
	if e.out == "" {
		return write(stdout)
	}
	if err := checkReplaced(e.out); err != nil {
		return err
	}
	return replaceFile(e.out, write)
}

// checkReplaced refuses to replace a file that export did not write: /etc/hosts has the machine's own names.
func checkReplaced(path string) error {
	there, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer there.Close()
	begin := make([]byte, max(len(exportedHosts), len(exportedJSON)))
	n, err := io.ReadFull(there, begin)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if text := string(begin[:n]); text != "" && !strings.HasPrefix(text, exportedHosts) && !strings.HasPrefix(text, exportedJSON) {
		return fmt.Errorf("--out %s: the file is there, and export did not write it: append to it, or take another", path)
	}
	return nil
}

// replaceFile writes a file beside another, and puts it in its place once it is whole.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	draft, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(draft.Name()))
		}
	}()
	err = errors.Join(write(draft), draft.Chmod(0o644), draft.Sync(), draft.Close())
	if err != nil {
		return err
	}
	return os.Rename(draft.Name(), path)
}
