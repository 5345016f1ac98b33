// Package dependency says which modules a program is made of, which of them needs which, and under which
// licenses they are. It asks the go command and reads the module cache; it needs no network once
// the modules are there.
package dependency

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Module is one module of others that packages are taken from.
type Module struct {
	Path    string
	Version string
	// Dir is the folder of the module cache that holds it.
	Dir string
	// Folders are the folders of the packages that are used, sorted.
	Folders []string
	// Requires are the paths of the modules that these packages import, sorted.
	Requires []string
}

func (m Module) String() string { return m.Path + "@" + m.Version }

// Target is what is built, and for which machine: the settings of the go command that decide what is linked.
type Target struct {
	// Root is the folder that the go command runs in.
	Root string
	// Packages are patterns of the go command.
	Packages []string
	// Tests adds what the tests of the packages need.
	Tests bool
	// Tags is a list of build tags, separated by commas.
	Tags string
	// Environment is added to that of this process, such as GOARCH=arm64.
	Environment []string
}

// listed is what is read of what go list says about a package.
type listed struct {
	ImportPath string
	Dir        string
	Imports    []string
	Module     *listedModule
	Error      *struct{ Err string }
}

type listedModule struct {
	Path    string
	Version string
	Dir     string
	Main    bool
	Replace *listedModule
}

// Of returns the modules that target is made of, sorted by path, without the main module and without the
// standard library; direct are the paths of the modules that the main module's own packages import.
func Of(ctx context.Context, target Target) (modules []Module, direct []string, err error) {
	packages, err := list(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	owner := make(map[string]string, len(packages)) // package: the module it is of
	for _, pkg := range packages {
		if pkg.Module != nil {
			owner[pkg.ImportPath] = pkg.Module.Path
		}
	}
	found := map[string]*Module{}
	needs := map[string]map[string]bool{}
	var main string
	for _, pkg := range packages {
		if pkg.Module == nil {
			continue
		}
		path := pkg.Module.Path
		if pkg.Module.Main {
			main = path
		} else if found[path] == nil {
			found[path] = &Module{Path: path, Version: pkg.Module.Version, Dir: pkg.Module.Dir}
			if replaced := pkg.Module.Replace; replaced != nil {
				found[path].Version, found[path].Dir = replaced.Version, replaced.Dir
			}
		}
		if module := found[path]; module != nil && !slices.Contains(module.Folders, pkg.Dir) {
			module.Folders = append(module.Folders, pkg.Dir)
		}
		if needs[path] == nil {
			needs[path] = map[string]bool{}
		}
		for _, imported := range pkg.Imports {
			if needed := owner[imported]; needed != "" && needed != path {
				needs[path][needed] = true
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		module := found[path]
		slices.Sort(module.Folders)
		delete(needs[path], main)
		module.Requires = slices.Sorted(maps.Keys(needs[path]))
		modules = append(modules, *module)
	}
	return modules, slices.Sorted(maps.Keys(needs[main])), nil
}

// list asks the go command for the packages of target and all that they need.
func list(ctx context.Context, target Target) ([]listed, error) {
	args := []string{"list", "-deps", "-tags", target.Tags, "-json=ImportPath,Dir,Imports,Module,Error"}
	if target.Tests {
		args = append(args, "-test")
	}
	command := exec.CommandContext(ctx, "go", append(append(args, "--"), target.Packages...)...) //nolint:gosec // Always the go command; what follows -- are packages.
	command.Dir = target.Root
	command.Env = append(os.Environ(), target.Environment...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", strings.Join(target.Packages, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var pkg listed
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading what go list says of %s: %w", strings.Join(target.Packages, " "), err)
		}
		if pkg.Error != nil {
			return nil, fmt.Errorf("go list: package %s: %s", pkg.ImportPath, pkg.Error.Err)
		}
		packages = append(packages, pkg)
	}
}
