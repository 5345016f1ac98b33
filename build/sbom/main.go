// Command sbom writes what programs are made of, as CycloneDX JSON: for each program PROGRAM.cdx.json beside it.
// The same program gives the same bytes each time: there is no time and no random number in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// suffix is what CycloneDX has files be named.
const suffix = ".cdx.json"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

// run writes the bill of every program that args name, which must have been built of the module that the
// working directory is in, as it is now.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sbom", flag.ContinueOnError)
	flags.SetOutput(stderr)
	version := flags.String("version", "", "version of the programs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version == "" || flags.NArg() == 0 {
		return errors.New("want -version VERSION and the files of programs")
	}
	for _, file := range flags.Args() {
		built, err := read(ctx, file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		bill, err := built.bill(*version)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := save(bill, file+suffix); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if _, err := fmt.Fprintf(stdout, "sbom: %s: %d components\n", file+suffix, len(*bill.Components)); err != nil {
			return err
		}
	}
	return nil
}
