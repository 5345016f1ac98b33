package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/build/dependency"
)

// set is the modules that one program, or all tests, are made of.
type set struct {
	name    string
	modules []dependency.Module
}

// programs are what is handed on.
var programs = []string{"coredns", "meshvm-syncer", "meshvmctl"}

// machines are those that programs are built for. What is linked may differ.
var machines = []string{"amd64", "arm64"}

// linked returns what each program is linked with, on any machine.
func linked(ctx context.Context) ([]set, error) {
	sets := make([]set, 0, len(programs))
	for _, program := range programs {
		union := set{name: program}
		for _, machine := range machines {
			modules, _, err := dependency.Of(ctx, dependency.Target{
				Packages:    []string{"./build/" + program},
				Tags:        "grpcnotrace",
				Environment: []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + machine},
			})
			if err != nil {
				return nil, fmt.Errorf("program %s on %s: %w", program, machine, err)
			}
			union.add(modules)
		}
		sets = append(sets, union)
	}
	return sets, nil
}

// tested returns what the tests of all packages are made of. They are not handed on, but are held to the same.
func tested(ctx context.Context) (set, error) {
	modules, _, err := dependency.Of(ctx, dependency.Target{Packages: []string{"./..."}, Tests: true})
	if err != nil {
		return set{}, fmt.Errorf("tests: %w", err)
	}
	return set{name: "tests", modules: modules}, nil
}

// add puts modules in, and their folders where they are there already.
func (s *set) add(modules []dependency.Module) {
	for _, module := range modules {
		at, found := slices.BinarySearchFunc(s.modules, module.Path, func(have dependency.Module, path string) int {
			return strings.Compare(have.Path, path)
		})
		if !found {
			s.modules = slices.Insert(s.modules, at, module)
			continue
		}
		folders := append(s.modules[at].Folders, module.Folders...)
		slices.Sort(folders)
		s.modules[at].Folders = slices.Compact(folders)
	}
}

// judge reads the licenses of a module and says what is wrong with them.
func judge(module dependency.Module) error {
	licenses, err := module.Licenses()
	if err != nil {
		return err
	}
	return dependency.Judge(module, licenses)
}
