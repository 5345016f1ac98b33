package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/plugin/watch"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// lookup is one question and whom to ask.
type lookup struct {
	name, recordType, namespace string
	node                        string
	syncer, http                string
	connection                  watch.Config
	output                      string
	timeout                     time.Duration
}

// recordTypes that can be looked up.
var recordTypes = []string{"A", "AAAA", "CNAME", "PTR", "SRV"}

// usageError is a fault of who asks.
type usageError struct{ error }

func (l *lookup) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&l.recordType, "type", "", "record `TYPE`: A, AAAA, CNAME, PTR or SRV (default A and AAAA; PTR for an address, SRV for _PORT._PROTOCOL.HOST)")
	flags.StringVar(&l.namespace, "namespace", "", "`NAMESPACE` of the VM that asks; with --syncer, a certificate that names one wins")
	flags.StringVar(&l.node, "node", "", "`NAME` of the VM that asks, where its labels decide which Istio Sidecar it has (default with --syncer: this machine's)")
	flags.StringVar(&l.syncer, "syncer", "", "ask as a VM does, at the syncer's `ADDR`ess for VMs (HOST:15054): what would be answered")
	flags.StringVar(&l.http, "http", "", "ask for an explanation, at the syncer's HTTP `ADDR`ess (HOST:15055): what would be answered, and why")
	flags.StringVar(&l.connection.TLS.CertFile, "tls-cert-file", "", "PEM `FILE` of the client certificate chain, with --syncer")
	flags.StringVar(&l.connection.TLS.KeyFile, "tls-private-key-file", "", "PEM `FILE` of its private key, with --syncer")
	flags.StringVar(&l.connection.TLS.CAFile, "tls-ca-file", "", "PEM `FILE` of the authorities that the syncer's certificate comes from, with --syncer, or --http https://...")
	flags.StringVar(&l.connection.ServerName, "tls-server-name", "", "`NAME` expected in the syncer's certificate, with either")
	flags.StringVar(&l.connection.TokenFile, "token-file", "", "`FILE` of a bearer token, with --syncer")
	flags.BoolVar(&l.connection.Insecure, "insecure", false, "plaintext, with --syncer on a loopback address")
	flags.DurationVar(&l.timeout, "timeout", 10*time.Second, "how long to wait for the syncer")
	flags.StringVarP(&l.output, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

const lookupUsage = `meshvmctl lookup shows what the registry answers for a name.

Usage:
  meshvmctl lookup NAME --http ADDR [flags]      what a VM is answered, and why
  meshvmctl lookup NAME --syncer ADDR [flags]    what a VM is answered, over a stream of its own

Exit codes: 0 answered, 1 no such name or record in the mesh, 2 wrong usage, 3 the syncer cannot be asked.

Flags:
`

func runLookup(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var l lookup
	flags := pflag.NewFlagSet("meshvmctl lookup", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	l.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, lookupUsage+flags.FlagUsagesWrapped(100))
		return exitFound
	}
	if err == nil {
		err = l.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl lookup: %v (see meshvmctl lookup --help)\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	explanation, err := l.ask(ctx)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "meshvmctl lookup: %v\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "meshvmctl lookup: %v\n", err)
		return exitUnreachable
	}
	if err := l.print(stdout, explanation); err != nil {
		fmt.Fprintf(stderr, "meshvmctl lookup: write the answer: %v\n", err)
		return exitUnreachable
	}
	if explanation.Outcome != explain.Answered {
		return exitNotFound
	}
	return exitFound
}

// check reports what is wrong with the command line, by flag.
func (l *lookup) check(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one NAME, got %d", len(args))
	}
	l.name = strings.ToLower(strings.TrimSuffix(args[0], "."))
	l.recordType = strings.ToUpper(l.recordType)
	switch {
	case l.name == "":
		return errors.New("NAME is empty")
	case l.recordType != "" && !slices.Contains(recordTypes, l.recordType):
		return fmt.Errorf("--type %q: want %s", l.recordType, strings.Join(recordTypes, ", "))
	case (l.syncer == "") == (l.http == ""):
		return errors.New("want either --syncer or --http")
	case l.output != "text" && l.output != "json":
		return fmt.Errorf("--output %q: want text or json", l.output)
	case l.timeout <= 0:
		return fmt.Errorf("--timeout %s: want more than nothing", l.timeout)
	}
	c := l.connection
	if l.http != "" {
		if c.Insecure || c.TLS.CertFile != "" || c.TLS.KeyFile != "" || c.TokenFile != "" {
			return errors.New("--tls-cert-file, --tls-private-key-file, --token-file and --insecure go with --syncer only")
		}
		if err := l.httpPort().check(); err != nil {
			return err
		}
	}
	if l.syncer != "" {
		if _, _, err := net.SplitHostPort(l.syncer); err != nil {
			return fmt.Errorf("--syncer %q: want HOST:PORT", l.syncer)
		}
	}
	return nil
}

func (l *lookup) ask(ctx context.Context) (explain.Explanation, error) {
	if l.http != "" {
		return l.askHTTP(ctx)
	}
	return l.askAsVM(ctx)
}

func (l *lookup) print(w io.Writer, explanation explain.Explanation) error {
	if l.output == "json" {
		return printJSON(w, explanation)
	}
	return printText(w, explanation)
}
