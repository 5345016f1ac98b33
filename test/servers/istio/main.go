// Command istio runs parts of Istio's control plane, unchanged, for tests.
//
//	istio allocate KUBECONFIG   gives virtual IPs to ServiceEntries, as istiod does, until it is told to stop
//	istio names NAMESPACE...    reads objects as YAML from standard input, and writes as JSON which names a
//	                            proxy in each namespace resolves to which addresses
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"istio.io/istio/pkg/log"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "istio: %v\n", err)
		os.Exit(1)
	}
}

func run(arguments []string, in io.Reader, out io.Writer) error {
	// Standard output is for answers.
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	if err := log.Configure(options); err != nil {
		return fmt.Errorf("set up the log: %w", err)
	}
	switch {
	case len(arguments) == 2 && arguments[0] == "allocate":
		stop := make(chan struct{})
		told := make(chan os.Signal, 1)
		signal.Notify(told, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-told
			close(stop)
		}()
		return allocate(arguments[1], stop)
	case len(arguments) > 1 && arguments[0] == "names":
		objects, err := io.ReadAll(in)
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		return names(string(objects), arguments[1:], out)
	}
	return fmt.Errorf("usage: istio allocate KUBECONFIG | istio names NAMESPACE")
}
