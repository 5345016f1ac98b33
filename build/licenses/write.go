package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/meshvm/meshvm/build/dependency"
)

// index is the file of each program's folder that lists its modules, versions and licenses.
const index = "INDEX"

// write puts the texts of all licenses and notices below out: a folder for each program, in it the index and
// a folder for each module. What was there of an earlier time is replaced.
func write(ctx context.Context, out string, programs []set, stdout io.Writer) error {
	standard, err := standardLibrary(ctx)
	if err != nil {
		return err
	}
	for _, program := range programs {
		folder := filepath.Join(out, program.name)
		if err := os.RemoveAll(folder); err != nil {
			return fmt.Errorf("removing what was written before: %w", err)
		}
		modules := append([]dependency.Module{standard}, program.modules...)
		if err := writeProgram(folder, modules); err != nil {
			return fmt.Errorf("program %s: %w", program.name, err)
		}
		if _, err := fmt.Fprintf(stdout, "licenses: %s: %d modules\n", folder, len(modules)); err != nil {
			return err
		}
	}
	return nil
}

func writeProgram(folder string, modules []dependency.Module) error {
	var lines bytes.Buffer
	for _, module := range modules {
		licenses, err := module.Licenses()
		if err != nil {
			return err
		}
		if err := dependency.Judge(module, licenses); err != nil {
			return err
		}
		for _, license := range licenses {
			file := filepath.Join(folder, filepath.FromSlash(module.String()), filepath.FromSlash(license.File))
			if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
				return fmt.Errorf("module %s: %w", module, err)
			}
			if err := os.WriteFile(file, license.Text, 0o600); err != nil {
				return fmt.Errorf("module %s: %w", module, err)
			}
		}
		fmt.Fprintf(&lines, "%s\t%s\t%s\n", module.Path, module.Version, strings.Join(dependency.IDs(licenses), " AND "))
	}
	return os.WriteFile(filepath.Join(folder, index), lines.Bytes(), 0o600)
}

// standardLibrary returns Go's own library as a module: every program is linked with it.
func standardLibrary(ctx context.Context) (dependency.Module, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return dependency.Module{}, fmt.Errorf("asking where Go's own library is: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if len(lines) != 2 {
		return dependency.Module{}, fmt.Errorf("asking where Go's own library is: got %q, want a folder and a version", output)
	}
	return dependency.Module{Path: "std", Version: lines[1], Dir: lines[0], Folders: []string{lines[0]}}, nil
}
