// Command process measures what a query costs the whole process: CoreDNS with meshvm against CoreDNS
// with a plugin that answers one fixed record, in interleaved rounds of dnsperf over loopback. Machines
// are noisy, so only the ratio of the medians says anything. With -start it measures instead how long a VM
// takes from its start to the first answer, and how much memory it has.
//
// It needs dnsperf (Debian's package of that name), and Linux for /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const services = 1000

func main() {
	rounds := flag.Int("rounds", 9, "how many times each server is measured")
	seconds := flag.Int("seconds", 2, "how long one measurement lasts")
	chain := flag.String("chain", "", "plugins in front of both, such as `prometheus errors`")
	start := flag.Int("start", 0, "measure the start and the memory of a VM with so many services instead; it needs no dnsperf")
	flag.Parse()
	var err error
	if *start > 0 {
		err = runStart(context.Background(), os.Stdout, *start, *rounds)
	} else {
		err = run(context.Background(), os.Stdout, *rounds, *seconds, strings.Fields(*chain))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "process:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, rounds, seconds int, chain []string) error {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return fmt.Errorf("dnsperf is needed (Debian: apt-get install dnsperf): %w", err)
	}
	folder, err := os.MkdirTemp("", "meshvm-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := build(ctx, folder, "./build/meshvm-syncer", "./test/bench/fixed"); err != nil {
		return err
	}
	queries, err := prepare(folder)
	if err != nil {
		return err
	}

	ports := make([]string, 4)
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	syncer, err := start(ctx, filepath.Join(folder, "meshvm-syncer"), "--manifests", filepath.Join(folder, "manifests"),
		"--insecure", "--listen", "127.0.0.1:"+ports[0], "--http-listen", "127.0.0.1:"+ports[1])
	if err != nil {
		return err
	}
	defer stop(syncer)
	plugins := map[string]string{
		"meshvm": "meshvm {\n syncer 127.0.0.1:" + ports[0] + "\n insecure\n snapshot off\n }",
		"fixed":  "fixed",
	}
	servers := map[string]*exec.Cmd{}
	for i, name := range []string{"fixed", "meshvm"} {
		server, err := serve(ctx, folder, name, ports[2+i], append(chain, plugins[name]))
		if err != nil {
			return err
		}
		defer stop(server)
		servers[name] = server
	}

	cpu := map[string][]float64{}
	for round := range rounds + 1 {
		for i, name := range []string{"fixed", "meshvm"} {
			perQuery, err := measure(ctx, servers[name].Process.Pid, ports[2+i], queries, seconds)
			if err != nil {
				return err
			}
			if round > 0 { // the first one warms up
				cpu[name] = append(cpu[name], perQuery)
			}
		}
	}
	var ratios []float64
	for i := range cpu["fixed"] {
		ratios = append(ratios, cpu["meshvm"][i]/cpu["fixed"][i])
	}
	fmt.Fprintf(out, "CPU per query, us: min median max of %d rounds\n", rounds)
	for _, name := range []string{"fixed", "meshvm"} {
		fmt.Fprintf(out, "%-8s %s\n", name, summary(cpu[name]))
	}
	fmt.Fprintf(out, "%-8s %s  (meshvm to fixed, round by round)\n", "ratio", summary(ratios))
	return nil
}

// build builds programs into a folder, as a release is built.
func build(ctx context.Context, folder string, programs ...string) error {
	args := append([]string{"build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", folder}, programs...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, output)
	}
	return nil
}

func summary(values []float64) string {
	slices.Sort(values)
	return fmt.Sprintf("%6.2f %6.2f %6.2f", values[0], values[len(values)/2], values[len(values)-1])
}

// prepare writes manifests of many Services and a file of queries for them.
func prepare(folder string) (queries string, err error) {
	var manifests, names strings.Builder
	for i := range services {
		fmt.Fprintf(&manifests, "---\napiVersion: v1\nkind: Service\nmetadata: {name: service-%d, namespace: bench}\nspec: {clusterIP: 10.97.%d.%d}\n", i, i/250, i%250+1)
		fmt.Fprintf(&names, "service-%d.bench.svc.cluster.local A\n", i)
	}
	if err := os.Mkdir(filepath.Join(folder, "manifests"), 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(folder, "manifests", "services.yaml"), []byte(manifests.String()), 0o600); err != nil {
		return "", err
	}
	queries = filepath.Join(folder, "queries")
	return queries, os.WriteFile(queries, []byte(names.String()), 0o600)
}

// serve starts CoreDNS with a chain of plugins and waits until it answers.
func serve(ctx context.Context, folder, name, port string, chain []string) (*exec.Cmd, error) {
	corefile := filepath.Join(folder, "Corefile-"+name)
	text := fmt.Sprintf(".:%s {\n bind 127.0.0.1\n %s\n}\n", port, strings.Join(chain, "\n "))
	text = strings.ReplaceAll(text, " prometheus\n", " prometheus 127.0.0.1:0\n")
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	server, err := start(ctx, filepath.Join(folder, "fixed"), "-conf", corefile)
	if err != nil {
		return nil, err
	}
	query := new(dns.Msg).SetQuestion("service-1.bench.svc.cluster.local.", dns.TypeA)
	client := &dns.Client{Timeout: time.Second}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if reply, _, err := client.ExchangeContext(ctx, query, "127.0.0.1:"+port); err == nil && len(reply.Answer) == 1 {
			return server, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	stop(server)
	return nil, fmt.Errorf("%s does not answer", name)
}

var completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)

// measure runs dnsperf against a server and returns the server's CPU time per query in microseconds.
func measure(ctx context.Context, pid int, port, queries string, seconds int) (float64, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	output, err := exec.CommandContext(ctx, "dnsperf", "-s", "127.0.0.1", "-p", port, "-d", queries,
		"-l", strconv.Itoa(seconds), "-c", "4", "-q", "64").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("dnsperf: %w\n%s", err, output)
	}
	after, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	match := completed.FindSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("dnsperf printed no count:\n%s", output)
	}
	count, err := strconv.Atoi(string(match[1]))
	if err != nil || count == 0 {
		return 0, fmt.Errorf("dnsperf completed %q queries", match[1])
	}
	return float64((after - before).Microseconds()) / float64(count), nil
}

// cpuTime is the CPU time, user and system, that a process has used.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// proc(5): the name, in parentheses, may hold anything; utime and stime are the 12th and 13th
	// fields after it, in ticks of 10 ms.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("unexpected /proc/PID/stat")
	}
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func start(ctx context.Context, path string, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

func stop(cmd *exec.Cmd) {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		fmt.Fprintln(os.Stderr, "process:", err)
	}
	_ = cmd.Wait() // by our own signal
}

func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}
