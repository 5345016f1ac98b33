package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/meshvm/meshvm/plugin/status"
)

// Machine is the machine that is looked at. Root and Run are as in the redirect's.
type Machine struct {
	// Root is prepended to every path, for tests. Empty: /.
	Root string
	// Run runs a command and returns what it printed. Nil: it is executed.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Report asks CoreDNS how it stands.
	Report func(context.Context) (status.Report, error)
	// Now is the machine's clock. Nil: time.Now.
	Now func() time.Time
}

func (m Machine) path(path string) string { return filepath.Join("/", m.Root, path) }

func (m Machine) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

func (m Machine) run(ctx context.Context, name string, args ...string) (string, error) {
	var output []byte
	var err error
	if m.Run != nil {
		output, err = m.Run(ctx, name, args...)
	} else {
		output, err = exec.CommandContext(ctx, name, args...).CombinedOutput() // #nosec G204 -- names and arguments are this package's own
	}
	if err != nil {
		return string(output), fmt.Errorf("%s: %w: %.200s", name, err, strings.Join(strings.Fields(string(output)), " "))
	}
	return string(output), nil
}

// read is a file, or nothing where there is none.
func (m Machine) read(path string) (string, error) {
	content, err := os.ReadFile(m.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(content), err
}

func (m Machine) exists(path string) bool {
	_, err := os.Stat(m.path(path))
	return err == nil
}

// user is an id of passwd(5).
func (m Machine) user(name string) (uint32, bool) {
	content, err := m.read("/etc/passwd")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(content) {
		if fields := strings.Split(line, ":"); len(fields) > 2 && fields[0] == name {
			id, err := strconv.ParseUint(fields[2], 10, 32)
			return uint32(id), err == nil
		}
	}
	return 0, false
}

// servers are where CoreDNS says that it listens, or where the package has it listen.
func (e *examination) servers() []netip.AddrPort {
	var servers []netip.AddrPort
	for _, listener := range e.report.Servers {
		server, err := netip.ParseAddrPort(listener.Address)
		if err != nil {
			continue // it is no address of IP, such as a name in a test of CoreDNS's
		}
		servers = append(servers, server)
	}
	if len(servers) == 0 {
		servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return servers
}

// zone is one of the mesh, or the root.
func (e *examination) zone() string {
	for _, mirror := range e.report.Mirrors {
		for _, zone := range mirror.Zones {
			if !strings.HasSuffix(strings.Trim(zone, "."), ".arpa") {
				return zone
			}
		}
	}
	return "."
}
