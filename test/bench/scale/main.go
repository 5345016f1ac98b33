// Command scale measures a syncer under many VMs: one syncer process, with mutual TLS and the defaults of
// production, and in this process so many simulated VMs that speak the real protocol, each over a TCP
// connection and with a certificate of its own. It prints a table: what a change costs in bytes and CPU
// and how long it takes from commit to applied, what an idle VM costs in memory, and what it takes to bring
// all VMs up to date at once: cold starts, resumes, and failovers to another syncer.
//
// Every heartbeat that a VM receives is held against what that VM was sent. A mismatch fails the run.
//
// It needs Linux for /proc, and for each VM a file descriptor in either process. The VMs take a good part of
// the machine's CPU themselves, so that times are worse than with VMs elsewhere.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Getenv(childVariable) != "" {
		if err := runChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "scale: syncer:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(attackerVariable) != "" {
		if err := runAttacker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "scale: strangers:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	services, views, rounds int
	duration, idle          time.Duration
	profiles                string
	credentials             *credentials
	report                  *report

	strangersFor time.Duration
	kinds        string // of strangers; empty: all
	attacks      int
}

// scenarios are in the order in which they run.
var scenarios = []struct {
	name string
	run  func(*bench, context.Context, int) error
}{
	{"change", (*bench).changes},
	{"memory", (*bench).memory},
	{"cold", (*bench).cold},
	{"resume", (*bench).resume},
	{"failover", (*bench).failover},
	{"size", (*bench).size},
	{"strangers", (*bench).strangers},
}

// seldom are scenarios that run only where they are named.
var seldom = []string{"strangers"}

func run(ctx context.Context, args []string, out io.Writer) error {
	var names []string
	for _, s := range scenarios {
		if !slices.Contains(seldom, s.name) {
			names = append(names, s.name)
		}
	}
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	fleets := flags.String("vms", "100,1000", "numbers of VMs, such as 1000,5000")
	services := flags.Int("services", 10_000, "services in the registry; scenario size has ten times as many too")
	views := flags.Int("views", 10, "namespaces that the VMs are spread over")
	seconds := flags.Float64("seconds", 3, "how long one measurement of changes lasts")
	idle := flags.Float64("idle", 10, "for how many seconds nothing is done, to measure what heartbeats cost")
	rounds := flags.Int("rounds", 3, "how many times each figure is measured")
	chosen := flags.String("scenario", strings.Join(names, ","), "what to measure; strangers too, where it is named")
	strangersSeconds := flags.Float64("strangers-seconds", 10, "how long strangers connect in scenario strangers")
	kinds := flags.String("strangers", "", "which strangers: "+kindNames()+"; all by default")
	asJSON := flags.Bool("json", false, "print JSON in place of a table")
	profiles := flags.String("profile", "", "folder for profiles of the syncer: its CPU in scenario change, its memory in scenario memory")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	for kind := range strings.SplitSeq(*kinds, ",") {
		if kind != "" && attackerKinds[kind] == nil {
			return fmt.Errorf("-strangers %q: want some of %s", kind, kindNames())
		}
	}
	if *services < 200 || *views < 1 || *rounds < 1 || *seconds <= 0 || *idle <= 0 || *strangersSeconds <= 0 {
		return errors.New("want at least 200 services, one view, one round, and some seconds of each")
	}
	var sizes []int
	for text := range strings.SplitSeq(*fleets, ",") {
		size, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || size < *views || size > 50_000 {
			return fmt.Errorf("-vms %q: want numbers from that of views, %d, to 50000", text, *views)
		}
		if err := raiseFileLimit(size); err != nil {
			return err
		}
		sizes = append(sizes, size)
	}
	folder, err := os.MkdirTemp("", "meshvm-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	credentials, err := newCredentials(folder)
	if err != nil {
		return err
	}
	// Memory is cheap here; CPU is the syncer's.
	defer debug.SetGCPercent(debug.SetGCPercent(400))

	b := &bench{
		services: *services, views: *views, rounds: *rounds, profiles: *profiles,
		duration:    time.Duration(*seconds * float64(time.Second)),
		idle:        time.Duration(*idle * float64(time.Second)),
		credentials: credentials, report: newReport(),

		strangersFor: time.Duration(*strangersSeconds * float64(time.Second)), kinds: *kinds,
	}
	began := time.Now()
	if err := b.all(ctx, *chosen, sizes); err != nil {
		return err
	}
	return b.report.write(out, *asJSON, time.Since(began))
}

// all runs the scenarios that are chosen, each with every number of VMs.
func (b *bench) all(ctx context.Context, chosen string, sizes []int) error {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(chosen, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	for _, s := range scenarios {
		if !wanted[s.name] {
			continue
		}
		delete(wanted, s.name)
		for _, vms := range sizes {
			if err := s.run(b, ctx, vms); err != nil {
				return fmt.Errorf("%s of %d VMs: %w", s.name, vms, err)
			}
		}
	}
	for name := range wanted {
		return fmt.Errorf("-scenario %q is not known", name)
	}
	return nil
}

// profile has a syncer write a profile where one was asked for.
func (b *bench) profile(s *syncer, kind, name string) error {
	if b.profiles == "" {
		return nil
	}
	path, err := filepath.Abs(filepath.Join(b.profiles, name+".pprof"))
	if err != nil {
		return err
	}
	_, err = s.do(command{Do: "profile", Kind: kind, Path: path})
	return err
}

// raiseFileLimit makes room for a connection of each VM in each process.
func raiseFileLimit(vms int) error {
	const others = 100
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if need := uint64(vms + others); limit.Max < need {
		return fmt.Errorf("%d VMs need %d open files: the hard limit is %d", vms, need, limit.Max)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}
