package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Resolvers are the programs that names are looked up with.
const (
	Glibc = "getent" // getaddrinfo of the C library
	Go    = "go"     // the resolver of Go's standard library
	Musl  = "musl"   // getaddrinfo of musl
)

// Names are looked up by Resolve.
var Names = []string{Service, Entry, Outside, Short}

// Answers are IPv4 addresses, by resolver and name. A dash is none.
type Answers map[string]map[string]string

// Probes builds the programs that look names up in machines, and the client that asks at a steady rate, into a folder that outlives
// the test. Go's and musl's are static: machines need nothing for them.
func Probes(ctx context.Context) error {
	folder, err := probesFolder()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // users of machines run what is in it
		return err
	}
	repository, err := Repository()
	if err != nil {
		return err
	}
	_, err = shell(ctx, `
cd "$1"
CGO_ENABLED=0 go build -trimpath -o "$2/" ./test/machines/probe ./test/machines/load
musl-gcc -static -O1 -Wall -Werror -o "$2/probe-musl" test/machines/probe/musl/probe.c
`, repository, folder)
	return err
}

func probesFolder() (string, error) {
	roots, err := rootsFolder()
	return filepath.Join(filepath.Dir(roots), "probes"), err
}

// putProbes copies the programs to where the machine finds them.
func (m *Machine) putProbes() {
	m.tb.Helper()
	folder, err := probesFolder()
	check(m.tb, err)
	for _, name := range []string{"probe", "probe-musl"} {
		content, err := os.ReadFile(filepath.Join(folder, name))
		check(m.tb, err)
		check(m.tb, os.WriteFile(filepath.Join(m.Shared, name), content, 0o755)) //nolint:gosec // a program
	}
}

// Resolve looks names up in the machine with every resolver, those of Names where none are given.
func (m *Machine) Resolve(names ...string) Answers {
	m.tb.Helper()
	if len(names) == 0 {
		names = Names
	}
	all := strings.Join(names, " ")
	answers := Answers{}
	for resolver, script := range map[string]string{
		Glibc: `for name in ` + all + `; do echo $name $(getent ahostsv4 $name | cut -d" " -f1 | sort -u) - | cut -d" " -f1,2; done`,
		Go:    Shared + "/probe " + all + " 2>/dev/null",
		Musl:  Shared + "/probe-musl " + all + " 2>/dev/null",
	} {
		answers[resolver] = map[string]string{}
		for line := range strings.Lines(m.Run(script)) {
			fields := strings.Fields(line)
			if len(fields) != 2 {
				m.tb.Fatalf("%s: %s: got %q, want a name and an address", m.Name, resolver, line)
			}
			answers[resolver][fields[0]] = fields[1]
		}
	}
	return answers
}

// Differ says where answers are not what is wanted, whichever resolver was asked, for each name of want.
func (a Answers) Differ(want map[string]string) string {
	var lines []string
	for _, resolver := range []string{Glibc, Go, Musl} {
		for name, address := range want {
			if got := a[resolver][name]; got != address {
				lines = append(lines, resolver+": "+name+": got "+got+", want "+address)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Dig runs dig in the network of the machine, past whatever resolves names there, and returns what it wrote, also of its failure.
func (m *Machine) Dig(args ...string) string {
	command := exec.CommandContext(context.Background(), "nsenter", append([]string{"--net=" + filepath.Join(namespaces, m.site.inside), "--", // #nosec G204 -- what the tests run
		"dig", "+tries=1", "+time=3"}, args...)...)
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", output, err)
	}
	return string(output)
}

// Asker starts the client that asks at a steady rate in the network of the machine.
func (m *Machine) Asker(args ...string) *Asker {
	m.tb.Helper()
	folder, err := probesFolder()
	check(m.tb, err)
	command := exec.CommandContext(context.Background(), "nsenter", append([]string{"--net=" + filepath.Join(namespaces, m.site.inside), "--", // #nosec G204 -- what the tests run
		filepath.Join(folder, "load")}, args...)...)
	asker := &Asker{machine: m, command: command}
	command.Stdout, command.Stderr = &asker.output, os.Stderr
	check(m.tb, command.Start())
	m.tb.Cleanup(asker.kill)
	return asker
}
