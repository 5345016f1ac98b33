package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
)

// importing is files of another way to resolve names that are to become ServiceEntries.
type importing struct {
	format, namespace, clusterDomain string
	exportTo                         []string
	strict                           bool
	files                            []string
}

func (i *importing) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&i.format, "format", "hosts", "`FORMAT` of the files: hosts, as /etc/hosts, or dnsmasq, as /etc/dnsmasq.conf")
	flags.StringVar(&i.namespace, "namespace", "default", "`NAMESPACE` of the ServiceEntries")
	flags.StringSliceVar(&i.exportTo, "export-to", nil, "`NAMESPACES` that see them, separated by commas; . is their own (default as the mesh has it)")
	flags.StringVar(&i.clusterDomain, "cluster-domain", "cluster.local", "DNS `ZONE` of the cluster's Services, whose names are left out")
	flags.BoolVar(&i.strict, "strict", false, "exit with 1 when something was left out")
}

const importUsage = `meshvmctl import turns names of a hosts file, or of dnsmasq, into ServiceEntries with the same addresses. It writes YAML to
standard output, changes nothing, and says on standard error what it leaves out, with file and line.

Usage:
  meshvmctl import FILE... [flags]

FILE is - for standard input. Look at the YAML, then: kubectl apply -f -

Exit codes: 0 written, 1 nothing to write, or something left out with --strict, 2 wrong usage, 3 a file cannot be read.

Flags:
`

func runImport(_ context.Context, args []string, stdout, stderr io.Writer) int {
	var i importing
	flags := pflag.NewFlagSet("meshvmctl import", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	i.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, importUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		i.files = flags.Args()
		err = i.check()
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl import: %v (see meshvmctl import --help)\n", err)
		return exitUsage
	}
	found := &imported{clusterDomain: strings.TrimSuffix(i.clusterDomain, ".")}
	for _, file := range i.files {
		if err := i.read(file, found); err != nil {
			fmt.Fprintf(stderr, "meshvmctl import: %v\n", err)
			return exitUnreachable
		}
	}
	found.finish()
	for _, left := range found.left {
		fmt.Fprintf(stderr, "%s\n", left.said)
	}
	if err := found.write(stdout, i.namespace, i.exportTo); err != nil {
		fmt.Fprintf(stderr, "meshvmctl import: %v\n", err)
		return exitUnreachable
	}
	fmt.Fprintf(stderr, "meshvmctl import: %d names, %d lines left out\n", len(found.names), len(found.left))
	if len(found.names) == 0 || i.strict && len(found.left) > 0 {
		return exitRefused
	}
	return exitDone
}

func (i *importing) check() error {
	switch {
	case len(i.files) == 0:
		return errors.New("no file: want one or more, or - for standard input")
	case i.format != "hosts" && i.format != "dnsmasq":
		return fmt.Errorf("--format is %q: want hosts or dnsmasq", i.format)
	case len(validation.IsDNS1123Label(i.namespace)) > 0:
		return fmt.Errorf("--namespace is %q: want the name of a namespace", i.namespace)
	case len(validation.IsDNS1123Subdomain(strings.TrimSuffix(i.clusterDomain, "."))) > 0:
		return fmt.Errorf("--cluster-domain is %q: want a DNS zone", i.clusterDomain)
	}
	seen := map[string]bool{}
	for _, namespace := range i.exportTo {
		own := namespace
		if namespace == "." {
			own = i.namespace
		}
		switch {
		case seen[own]:
			return fmt.Errorf("--export-to has namespace %s twice", own)
		case len(i.exportTo) > 1 && (namespace == "*" || namespace == "~"):
			return fmt.Errorf("--export-to has %s beside others: it is everybody, or nobody", namespace)
		}
		seen[own] = true
		if !slices.Contains([]string{".", "*", "~"}, namespace) && len(validation.IsDNS1123Label(namespace)) > 0 {
			return fmt.Errorf("--export-to has %q: want names of namespaces, ., * or ~", namespace)
		}
	}
	return nil
}

// read takes the names of one file.
func (i *importing) read(file string, into *imported) error {
	from, name := io.Reader(os.Stdin), "standard input"
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return err
		}
		defer opened.Close()
		from, name = opened, file
	}
	if i.format == "dnsmasq" {
		return into.readDnsmasq(from, name)
	}
	return into.readHosts(from, name)
}
