// Command licenses checks that every module that the programs are linked with, and every one that tests
// use, is under a license that is allowed. With -out it writes the texts, to be handed on with the programs.
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "licenses:\n%v\n", err)
		os.Exit(1)
	}
}

// run checks, or writes where args have -out, for the module that the working directory is in.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("licenses", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", "", "folder to write the texts of the licenses to, a folder for each program")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	programs, err := linked(ctx)
	if err != nil {
		return err
	}
	if *out != "" {
		return write(ctx, *out, programs, stdout)
	}
	tests, err := tested(ctx)
	if err != nil {
		return err
	}
	return check(append(programs, tests), stdout)
}

// check judges every module once, and says how many there are.
func check(sets []set, stdout io.Writer) error {
	judged := map[string]bool{}
	var faults []error
	for _, set := range sets {
		for _, module := range set.modules {
			if judged[module.String()] {
				continue
			}
			judged[module.String()] = true
			if err := judge(module); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", set.name, err))
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "licenses: %d modules, all allowed\n", len(judged))
	return err
}
