package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
)

// childVariable, set in the environment, makes this program a syncer that its parent commands through
// standard input and output.
const childVariable = "MESHVM_BENCH_SCALE_SYNCER"

// childConfig is the first line that a child reads.
type childConfig struct {
	Services, Views int
	TLS             server.TLSFiles
	// Tokens: it takes tokens too, of which none is good.
	Tokens bool
}

// command is each further line. One is answered before the next is read.
type command struct {
	Do string
	// Count and Rate, per second, of `change`. A Rate of zero: all at once, as one revision.
	Count int
	Rate  float64
	// Path of `profile`; Kind is heap or goroutine, or cpu: until the next command of that kind.
	Path, Kind string
}

// answer is what a child says to its config and to each command.
type answer struct {
	Error string
	// Address of VMs, to the config.
	Address string
	// Revision is the registry's latest.
	Revision uint64
	// CPU is the time used so far, user and system.
	CPU time.Duration
	// RSS and Peak, the most RSS since the last `watermark`, are the kernel's; Heap and Stack, in use, and
	// Goroutines are the runtime's.
	RSS, Peak, Heap, Stack int64
	Goroutines             int64
}

// runChild is the syncer's process. It ends when its standard input does.
func runChild(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	var config childConfig
	if !lines.Scan() {
		return errors.Join(errors.New("no configuration"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &config); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	c := &child{config: config, registry: registry.New(registry.Options{})}
	c.source = c.registry.AddSource("bench")
	if err := c.fill(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	address, served, err := c.serve(ctx, &group)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(answer{Address: address, Revision: c.registry.Revision()}); err != nil {
		return err
	}
	for lines.Scan() {
		var ordered command
		if err := json.Unmarshal(lines.Bytes(), &ordered); err != nil {
			return fmt.Errorf("read command: %w", err)
		}
		said, err := c.obey(ordered)
		if err != nil {
			said.Error = err.Error()
		}
		if err := encoder.Encode(said); err != nil {
			return err
		}
	}
	cancel()
	return errors.Join(lines.Err(), <-served)
}

// child is a syncer with a registry that it fills itself.
type child struct {
	config   childConfig
	registry *registry.Registry
	source   *registry.Source
	changes  int
	profile  *os.File
}

func (c *child) fill() error {
	const atOnce = 1000
	for first := 0; first < c.config.Services; first += atOnce {
		var updates []registry.Update
		for i := first; i < min(first+atOnce, c.config.Services); i++ {
			updates = append(updates, numberedService(i, 0, c.config.Views))
		}
		if err := c.source.Apply(time.Now(), updates...); err != nil {
			return err
		}
	}
	c.source.Synced()
	return nil
}

// serve runs the server as meshvm-syncer does, with the defaults of production.
func (c *child) serve(ctx context.Context, group *sync.WaitGroup) (address string, served chan error, err error) {
	options := server.Options{Version: "bench", TLS: &c.config.TLS}
	if c.config.Tokens {
		options.Tokens = noTokens{}
	}
	front, err := server.New(c.registry, options)
	if err != nil {
		return "", nil, err
	}
	vms, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	people, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(err, vms.Close())
	}
	served = make(chan error, 1)
	group.Go(func() { served <- front.Serve(ctx, vms, people) })
	return vms.Addr().String(), served, nil
}

// noTokens refuses every token at no cost: what it costs to verify one is bounded where that is done.
type noTokens struct{}

// Authenticate implements identity.TokenAuthenticator.
func (noTokens) Authenticate(context.Context, string) (identity.Identity, error) {
	return identity.Identity{}, identity.Refuse(identity.ReasonMalformed, "no token is good here")
}

func (c *child) obey(ordered command) (answer, error) {
	switch ordered.Do {
	case "measure":
		return c.measure()
	case "settle":
		// A pool lets go with the second only, and each halves stacks that are too large.
		for range 4 {
			runtime.GC()
		}
		debug.FreeOSMemory()
		return c.measure()
	case "watermark":
		// proc(5): the peak begins anew.
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			return answer{}, err
		}
		return c.measure()
	case "change":
		if err := c.change(ordered.Count, ordered.Rate); err != nil {
			return answer{}, err
		}
		return c.measure()
	case "profile":
		return answer{}, c.writeProfile(ordered.Kind, ordered.Path)
	default:
		return answer{}, fmt.Errorf("unknown command %q", ordered.Do)
	}
}

// change changes one service after the other at a rate.
func (c *child) change(count int, rate float64) error {
	began := time.Now()
	var together []registry.Update
	for i := range count {
		c.changes++
		update := numberedService(changedService(c.changes, c.config.Services), c.changes, c.config.Views)
		if rate <= 0 {
			together = append(together, update)
			continue
		}
		if err := c.source.Apply(time.Now(), update); err != nil {
			return err
		}
		// The next one is due by the clock, so that no delay adds up.
		<-time.After(time.Until(began.Add(time.Duration(float64(i+1) / rate * float64(time.Second)))))
	}
	if len(together) == 0 {
		return nil
	}
	return c.source.Apply(time.Now(), together...)
}

func (c *child) measure() (answer, error) {
	said := answer{Revision: c.registry.Revision()}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return said, err
	}
	said.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(samples)
	said.Heap, said.Stack, said.Goroutines = int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64()), int64(samples[2].Value.Uint64())
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return said, err
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "VmRSS:" && fields[0] != "VmHWM:" {
			continue
		}
		kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return said, fmt.Errorf("read /proc/self/status: %w", err)
		}
		if fields[0] == "VmRSS:" {
			said.RSS = kilobytes << 10
		} else {
			said.Peak = kilobytes << 10
		}
	}
	return said, nil
}

func (c *child) writeProfile(kind, path string) error {
	if kind == "cpu" && c.profile != nil {
		pprof.StopCPUProfile()
		err := c.profile.Close()
		c.profile = nil
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if kind == "cpu" {
		c.profile = file
		return pprof.StartCPUProfile(file)
	}
	runtime.GC() // a profile of memory is as of the last one
	return errors.Join(pprof.Lookup(kind).WriteTo(file, 0), file.Close())
}
