package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/meshvm/meshvm/build/dependency"
)

// program is what a built program says of itself, and the modules that it was built of.
type program struct {
	name string
	info *debug.BuildInfo
	// modules are those that the program is linked with, and direct the paths of those that its own module imports.
	modules []dependency.Module
	direct  []string
}

// read reads a program, and asks the go command about its modules with the settings it was built with. The
// two must agree: a program that was built of something else is an error.
func read(ctx context.Context, file string) (*program, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading what it was built of: %w", err)
	}
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	target := dependency.Target{Packages: []string{info.Path}, Tags: settings["-tags"]}
	for _, key := range []string{"CGO_ENABLED", "GOOS", "GOARCH"} {
		if settings[key] == "" {
			return nil, fmt.Errorf("it does not say with which %s it was built", key)
		}
		target.Environment = append(target.Environment, key+"="+settings[key])
	}
	p := &program{name: filepath.Base(file), info: info}
	if p.modules, p.direct, err = dependency.Of(ctx, target); err != nil {
		return nil, err
	}
	return p, p.agrees()
}

// agrees returns an error that names every module that only one of program and sources have.
func (p *program) agrees() error {
	listed := map[string]string{}
	for _, module := range p.modules {
		listed[module.Path] = module.Version
	}
	var faults []error
	for _, linked := range p.info.Deps {
		if want := versionOf(linked); listed[linked.Path] != want {
			faults = append(faults, fmt.Errorf("it has %s %s, and the sources %q", linked.Path, want, listed[linked.Path]))
		}
		delete(listed, linked.Path)
	}
	for path, version := range listed {
		faults = append(faults, fmt.Errorf("it does not have %s, and the sources %s", path, version))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("it was not built of these sources: %w", err)
	}
	return nil
}

// versionOf is the version that was linked, which a replacement may have taken the place of.
func versionOf(module *debug.Module) string {
	if module.Replace != nil {
		return module.Replace.Version
	}
	return module.Version
}

// sumOf is the hash of the module's files, as go.sum has it, without its scheme.
func sumOf(module *debug.Module) (string, error) {
	sum := module.Sum
	if module.Replace != nil {
		sum = module.Replace.Sum
	}
	hash, found := strings.CutPrefix(sum, "h1:")
	if !found {
		return "", fmt.Errorf("module %s has sum %q, want one of scheme h1", module.Path, sum)
	}
	return hash, nil
}
