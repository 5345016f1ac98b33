package supportbundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

// units are those of the packages.
var units = []string{"meshvm.service", "meshvm-redirect.service", "meshvm-redirect-watch.service", "meshvm-redirect-recover.service"}

// Where a Corefile says that metrics and profiles are, and where they are if it names no address.
var (
	metricsLine = regexp.MustCompile(`(?m)^\s*prometheus(?:[ \t]+(\S+))?[ \t]*$`)
	profileLine = regexp.MustCompile(`(?m)^\s*pprof(?:[ \t]+(\S+))?[ \t]*(?:\{.*)?$`)
)

// MachineItems is what the machine itself tells: its files, its units, their journal, and what CoreDNS serves over HTTP.
func MachineItems(m redirect.Machine) []Item {
	file := func(path, about string) Item {
		return Item{Name: "files" + path, About: about, Collect: func(context.Context) ([]byte, error) { return readFile(m, path) }}
	}
	command := func(name, about string, words ...string) Item {
		return Item{Name: name, About: about, Collect: func(ctx context.Context) ([]byte, error) { return run(ctx, m, words...) }}
	}
	journal := []string{"journalctl", "--no-pager", "--lines=5000", "--output=short-iso"}
	for _, unit := range units {
		journal = append(journal, "--unit="+unit)
	}
	return []Item{
		file("/etc/meshvm/Corefile", "what CoreDNS is configured to do"),
		file("/etc/meshvm/meshvm.env", "its environment"),
		file("/etc/resolv.conf", "whom programs ask"),
		file("/etc/nsswitch.conf", "how glibc resolves"),
		file("/etc/os-release", "the system"),
		file(redirect.UpstreamsFile, "whom CoreDNS forwards to"),
		file(redirect.StateFile, "what the redirect has changed"),
		command("units.txt", "the units' states", append([]string{"systemctl", "--no-pager", "--full", "--lines=0", "status"}, units...)...),
		command("properties.txt", "the units' settings", append([]string{"systemctl", "--no-pager", "show"}, units...)...),
		command("journal.txt", "the units' journal", journal...),
		command("resolved.txt", "how systemd-resolved stands", "resolvectl", "--no-pager", "status"),
		command("sockets.txt", "who listens", "ss", "-H", "-l", "-n", "-t", "-u", "-p"),
		command("kernel.txt", "the kernel", "uname", "-a"),
		command("coredns.txt", "the version of CoreDNS", "coredns-meshvm", "-version"),
		{Name: "metrics.txt", About: "the metrics of CoreDNS", Collect: func(ctx context.Context) ([]byte, error) {
			return served(ctx, m, metricsLine, "localhost:9153", "/metrics")
		}},
		{Name: "goroutines.txt", About: "what CoreDNS is doing", Collect: func(ctx context.Context) ([]byte, error) {
			return served(ctx, m, profileLine, "localhost:6053", "/debug/pprof/goroutine?debug=1")
		}},
	}
}

// Secrets is the content of the files of a machine whose content must be in no archive: those in the folder of the configuration that
// are no configuration, and others by name. What cannot be read cannot be in an archive by that way either.
func Secrets(m redirect.Machine, more ...string) [][]byte {
	paths := more
	for _, pattern := range []string{"/etc/meshvm/*token*", "/etc/meshvm/*key*", "/etc/certs/*key*"} {
		// The pattern is well formed, which is all that can be wrong.
		found, _ := filepath.Glob(m.Path(pattern))
		for _, path := range found {
			paths = append(paths, strings.TrimPrefix(path, strings.TrimSuffix(m.Path("/"), "/")))
		}
	}
	var secrets [][]byte
	for _, path := range paths {
		if content, err := readFile(m, path); err == nil {
			secrets = append(secrets, content)
		}
	}
	return secrets
}

// readFile is the beginning of a regular file.
func readFile(m redirect.Machine, path string) ([]byte, error) {
	info, err := os.Stat(m.Path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is none")
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no file")
	}
	file, err := os.Open(m.Path(path)) // #nosec G304 -- names of this package and of the VM's own status
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxItem))
}

// run is what a command says, whether it succeeds or not.
func run(ctx context.Context, m redirect.Machine, words ...string) ([]byte, error) {
	if m.Run != nil {
		return m.Run(ctx, words[0], words[1:]...)
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return nil, fmt.Errorf("there is no %s", words[0])
	}
	said := &limited{}
	command := exec.CommandContext(ctx, words[0], words[1:]...) // #nosec G204 -- commands of this package
	command.Stdout, command.Stderr = said, said
	err := command.Run()
	return said.text, err
}

// limited keeps the end of what is written.
type limited struct{ text []byte }

func (l *limited) Write(text []byte) (int, error) {
	l.text = append(l.text, text...)
	if over := len(l.text) - 2*maxItem; over > 0 {
		l.text = append([]byte(nil), l.text[over:]...)
	}
	return len(text), nil
}

// served is what CoreDNS serves at the address that a line of the Corefile names.
func served(ctx context.Context, m redirect.Machine, line *regexp.Regexp, address, path string) ([]byte, error) {
	corefile, err := readFile(m, "/etc/meshvm/Corefile")
	if err != nil {
		return nil, fmt.Errorf("the Corefile says where: %w", err)
	}
	found := line.FindSubmatch(corefile)
	if found == nil {
		return nil, errors.New("the Corefile has it not served")
	}
	if len(found[1]) > 0 && string(found[1]) != "{" {
		address = string(found[1])
	}
	if strings.HasPrefix(address, ":") {
		address = "localhost" + address
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(io.LimitReader(response.Body, maxItem))
}
