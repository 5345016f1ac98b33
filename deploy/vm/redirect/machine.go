package redirect

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Machine is the machine whose resolution is redirected. The zero Machine is the one that this process runs on.
type Machine struct {
	// Root is prepended to every path, for tests. Empty: /.
	Root string
	// Run runs a command and returns what it printed. Nil: it is executed. Commands are for those who own resolution (systemctl,
	// resolvconf, nmcli, nft, restorecon) and are bounded by the context.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)

	// port is where the resolvers that resolv.conf names are asked. 0: 53.
	port uint16
	// known are the machine's resolvers where UpstreamsFile does not say any.
	known []netip.AddrPort
	// keep has Apply go on with what is applied, and do nothing where somebody has reverted it or asked for something else meanwhile.
	keep bool
	// fault is called before a file is changed, for tests. Its error is what the change comes to.
	fault func(change string) error
}

// Path is a path of the machine as this process opens it.
func (m Machine) Path(path string) string { return filepath.Join("/", m.Root, path) }

func (m Machine) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	if m.Run != nil {
		return m.Run(ctx, name, args...)
	}
	command := exec.CommandContext(ctx, name, args...) // #nosec G204 -- names and arguments are this package's own
	for _, folder := range rootFolders {
		if !errors.Is(command.Err, exec.ErrNotFound) {
			break
		}
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			command = exec.CommandContext(ctx, path, args...) // #nosec G204 -- as above
		}
	}
	path := os.Getenv("PATH") + ":" + strings.Join(rootFolders, ":")
	command.Env = append(os.Environ(), "PATH="+strings.Trim(path, ":")) // An empty folder would be the working one.
	command.WaitDelay = lingering
	output, err := command.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		return output, nil // It has done what it was to do.
	}
	return output, err
}

// rootFolders are where nft, resolvconf and restorecon are. A shell that su has started does not look there.
var rootFolders = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// lingering is how long a command's output is waited for after its end: a hook of resolvconf may leave a daemon that keeps it open.
const lingering = time.Second

// Files of this package. Both folders belong to root, since CoreDNS's user must not lead root astray by a link in its own.
const (
	// UpstreamsFile names the machine's own resolvers, a nameserver line each. CoreDNS forwards to them, and reloads when it changes.
	UpstreamsFile = "/run/meshvm-redirect/resolv.conf"
	// StateFile says what was changed. It outlives a boot, so that the next one can undo what a power cut left.
	StateFile = "/var/lib/meshvm-redirect/state.json"
)
