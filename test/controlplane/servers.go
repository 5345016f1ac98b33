package controlplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// modulePath tells the repository's own go.mod from those of nested modules.
const modulePath = "github.com/meshvm/meshvm"

// RepositoryRoot returns the folder of meshvm's go.mod, looking upward from the
// working directory. `go test` runs each test in its package's folder, so every
// test of the repository finds it.
func RepositoryRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository root: %w", err)
	}
	for folder := start; ; folder = filepath.Dir(folder) {
		found, err := declaresModule(filepath.Join(folder, "go.mod"), modulePath)
		if err != nil {
			return "", fmt.Errorf("find the repository root: %w", err)
		}
		if found {
			return folder, nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("find the repository root: no go.mod of module %s in %s or above it", modulePath, start)
		}
	}
}

// declaresModule reports whether file is a go.mod of module. A file that does
// not exist is not.
func declaresModule(file, module string) (bool, error) {
	content, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer content.Close()
	lines := bufio.NewScanner(content)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "module "); ok {
			return strings.TrimSpace(name) == module, nil
		}
	}
	return false, lines.Err()
}

// buildServers brings the servers up to date in bin/test of the repository and
// returns that folder. Where nothing changed it costs a few milliseconds; the
// first time it takes minutes, and says so on standard error, which `go test`
// shows while a test's own log waits for its end.
func buildServers(ctx context.Context, root string) (string, error) {
	binaries := filepath.Join(root, "bin", "test")
	script := filepath.Join(root, "test", "servers", "build.sh")
	build, err := startProcess(processSpec{
		name:      "build.sh",
		path:      "/bin/sh",
		arguments: []string{script, binaries},
		environ:   os.Environ(),
		output:    os.Stderr,
		ifOrphan:  syscall.SIGTERM,
	})
	if err != nil {
		return "", fmt.Errorf("build the test servers: %w", err)
	}
	select {
	case <-build.done:
	case <-ctx.Done():
		return "", fmt.Errorf("build the test servers: %w", errors.Join(context.Cause(ctx), build.stop(10*time.Second)))
	}
	if build.err != nil {
		return "", fmt.Errorf("build the test servers: %s: %w", script, build.err)
	}
	return binaries, nil
}
