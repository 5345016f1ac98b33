package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// settling is how long a process is left alone before its memory is read: the snapshot is written, and
	// what the start left behind is given back.
	settling = 8 * time.Second
	// changes is how many services change, a manifest of perFile at a time.
	changes = 10_000
	// patience bounds each wait.
	patience = 3 * time.Minute
)

// runStart measures what a mesh costs a VM: the memory of the process in each state that it comes
// through, and the time from its start to the first right answer with only the snapshot to go by.
func runStart(ctx context.Context, out io.Writer, services, rounds int) error {
	folder, err := os.MkdirTemp("", "meshvm-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := build(ctx, folder, "./build/meshvm-syncer", "./build/coredns"); err != nil {
		return err
	}
	var ports [3]string
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	v := vm{folder: folder, port: ports[0], syncer: ports[1], mesh: mesh{filepath.Join(folder, "manifests"), services}}
	if err := v.prepare(); err != nil {
		return err
	}
	syncer, err := start(ctx, filepath.Join(folder, "meshvm-syncer"), "--manifests", v.mesh.folder,
		"--insecure", "--listen", "127.0.0.1:"+v.syncer, "--http-listen", "127.0.0.1:"+ports[2])
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d services\nresident memory of the VM's process, and its peak so far, MiB\n", services)
	err = v.follow(ctx, out)
	stop(syncer)
	if err != nil {
		return err
	}

	var times, cpus, resident, peaks []float64
	for range rounds {
		took, cpu, memory, err := v.startAlone(ctx)
		if err != nil {
			return err
		}
		times, cpus = append(times, float64(took.Microseconds())/1000), append(cpus, float64(cpu.Milliseconds()))
		resident, peaks = append(resident, memory.resident), append(peaks, memory.peak)
	}
	fmt.Fprintf(out, "from the snapshot, without a syncer: min median max of %d starts\n", rounds)
	fmt.Fprintf(out, "%-32s %s\n", "first answer, ms", summary(times))
	fmt.Fprintf(out, "%-32s %s\n", "processor time until then, ms", summary(cpus))
	fmt.Fprintf(out, "%-32s %s\n", "resident, MiB", summary(resident))
	fmt.Fprintf(out, "%-32s %s\n", "peak, MiB", summary(peaks))
	return nil
}

// vm is a machine whose CoreDNS has a mesh from a syncer, and keeps a snapshot of it.
type vm struct {
	folder, port, syncer string
	mesh                 mesh
}

// prepare writes the manifests and the Corefile.
func (v vm) prepare() error {
	if err := v.mesh.write(); err != nil {
		return err
	}
	text := fmt.Sprintf(".:%s {\n bind 127.0.0.1\n errors\n meshvm {\n  syncer 127.0.0.1:%s\n  insecure\n  snapshot %s\n }\n}\n",
		v.port, v.syncer, filepath.Join(v.folder, "registry.snapshot"))
	return os.WriteFile(filepath.Join(v.folder, "Corefile"), []byte(text), 0o600)
}

// follow reports the memory of a process that follows the syncer: one that had nothing, and one that had
// a snapshot, which then goes through changes. It leaves a snapshot of the whole mesh.
func (v vm) follow(ctx context.Context, out io.Writer) error {
	report := func(state string, pid int) error {
		time.Sleep(settling)
		used, err := memoryOf(pid)
		if err == nil {
			fmt.Fprintf(out, "%-32s %6.1f %6.1f\n", state, used.resident, used.peak)
		}
		return err
	}
	if err := v.with(ctx, func(pid int) error {
		return errors.Join(v.await(ctx, 0), report("full sync, no snapshot", pid))
	}); err != nil {
		return err
	}
	return v.with(ctx, func(pid int) error {
		if err := errors.Join(v.await(ctx, 0), report("snapshot, then the syncer", pid)); err != nil {
			return err
		}
		for first := 0; first < min(changes, v.mesh.size); first += perFile {
			if err := v.mesh.writeFile(first, 1); err != nil {
				return err
			}
			time.Sleep(200 * time.Millisecond)
		}
		return errors.Join(
			v.await(ctx, 1), report(fmt.Sprintf("after %d changes", changes), pid),
			v.askAll(ctx), report("after a query for every name", pid))
	})
}

// with runs the VM's process for as long as do takes.
func (v vm) with(ctx context.Context, do func(pid int) error) error {
	server, err := start(ctx, filepath.Join(v.folder, "coredns"), "-quiet", "-conf", filepath.Join(v.folder, "Corefile"))
	if err != nil {
		return err
	}
	defer stop(server)
	return do(server.Process.Pid)
}

// startAlone is how long a process that finds a snapshot and no syncer takes to answer, how much processor
// time that is, and its memory a while later.
func (v vm) startAlone(ctx context.Context) (took, cpu time.Duration, used memory, err error) {
	began := time.Now()
	err = v.with(ctx, func(pid int) error {
		if err := v.await(ctx, 1); err != nil {
			return err
		}
		took = time.Since(began)
		var err error
		if cpu, err = cpuTime(pid); err != nil {
			return err
		}
		time.Sleep(settling)
		used, err = memoryOf(pid)
		return err
	})
	return took, cpu, used, err
}

// await asks for the last service that changes until it has the address of a version.
func (v vm) await(ctx context.Context, version byte) error {
	last := min(changes, v.mesh.size) - 3 // has a cluster IP
	query := new(dns.Msg).SetQuestion(v.mesh.name(last)+".", dns.TypeA)
	want := v.mesh.address(last, version)
	client := &dns.Client{Timeout: time.Second}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		// Until the port is open, the kernel refuses at once.
		reply, _, err := client.ExchangeContext(ctx, query, "127.0.0.1:"+v.port)
		if err != nil || len(reply.Answer) != 1 {
			continue
		}
		if a, ok := reply.Answer[0].(*dns.A); ok && a.A.String() == want.String() {
			return nil
		}
	}
	return fmt.Errorf("no answer of %s for %s within %s", want, v.mesh.name(last), patience)
}

// askAll asks for every service of the mesh: an answer that was asked for stays in memory.
func (v vm) askAll(ctx context.Context) error {
	client := &dns.Client{Timeout: 10 * time.Second}
	connection, err := client.DialContext(ctx, "127.0.0.1:"+v.port)
	if err != nil {
		return err
	}
	defer connection.Close()
	for i := range v.mesh.size {
		query := new(dns.Msg).SetQuestion(v.mesh.name(i)+".", dns.TypeA)
		reply, _, err := client.ExchangeWithConnContext(ctx, query, connection)
		if err != nil {
			return fmt.Errorf("ask for %s: %w", v.mesh.name(i), err)
		}
		if len(reply.Answer) == 0 {
			return fmt.Errorf("ask for %s: got no answer", v.mesh.name(i))
		}
	}
	return nil
}

// memory is what a process has in memory, in MiB: what is resident, and the most that ever was.
type memory struct{ resident, peak float64 }

func memoryOf(pid int) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var used memory
	for name, into := range map[string]*float64{"VmRSS:": &used.resident, "VmHWM:": &used.peak} {
		_, after, found := strings.Cut(string(status), name)
		fields := strings.Fields(after)
		if !found || len(fields) == 0 {
			return memory{}, fmt.Errorf("no %s in /proc/%d/status", name, pid)
		}
		kibibytes, err := strconv.Atoi(fields[0])
		if err != nil {
			return memory{}, fmt.Errorf("%s in /proc/%d/status: %w", name, pid, err)
		}
		*into = float64(kibibytes) / 1024
	}
	return used, nil
}
