package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"

	"github.com/meshvm/meshvm/build/dependency"
	"github.com/meshvm/meshvm/test/programs"
)

func TestMain(m *testing.M) {
	os.Exit(programs.Main(m, programs.CoreDNS, programs.Syncer, programs.Operator))
}

// linkedModules are the modules that the go command reads in a program, as path@version.
func linkedModules(t *testing.T, file string) []string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "version", "-m", file).Output()
	if err != nil {
		t.Fatalf("go version -m %s: %v", file, err)
	}
	var modules []string
	for line := range strings.Lines(string(output)) {
		if fields := strings.Fields(line); len(fields) >= 3 && fields[0] == "dep" {
			modules = append(modules, fields[1]+"@"+fields[2])
		}
	}
	return modules
}

// written runs the command for a copy of a program, and returns what it wrote.
func written(t *testing.T, file string) []byte {
	t.Helper()
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(here, program, 0o600); err != nil {
		t.Fatal(err)
	}
	// The go command is asked about the module that the test lies in.
	if err := run(t.Context(), []string{"-version", "v1.2.3", here}, t.Output(), t.Output()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(here + suffix)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestBills holds what each program's bill says against what the go command reads in the program.
func TestBills(t *testing.T) {
	tests := []struct {
		program string
		has     string // a module that only this one is sure to have
	}{
		{programs.CoreDNS, "github.com/coredns/coredns"},
		{programs.Syncer, "k8s.io/client-go"},
		{programs.Operator, "k8s.io/client-go"},
	}
	for _, test := range tests {
		t.Run(test.program, func(t *testing.T) {
			file := programs.Binary(t, test.program)
			content := written(t, file)
			if again := written(t, file); !bytes.Equal(again, content) {
				t.Error("written again: got other bytes, want the same")
			}
			var bill cyclonedx.BOM
			if err := cyclonedx.NewBOMDecoder(bytes.NewReader(content), cyclonedx.BOMFileFormatJSON).Decode(&bill); err != nil {
				t.Fatalf("reading the bill: %v", err)
			}
			if bill.BOMFormat != cyclonedx.BOMFormat || bill.SpecVersion != specification || bill.Version != 1 {
				t.Errorf("got format %s %s, version %d, want %s %s, version 1", bill.BOMFormat, bill.SpecVersion, bill.Version, cyclonedx.BOMFormat, specification)
			}
			self := bill.Metadata.Component
			if self.Name != test.program || self.Version != "v1.2.3" || self.PackageURL != "pkg:golang/github.com/meshvm/meshvm@v1.2.3#build/"+test.program {
				t.Errorf("got program %s %s, %s, want %s v1.2.3 and its package URL", self.Name, self.Version, self.PackageURL, test.program)
			}
			var modules []string
			references := map[string]bool{self.BOMRef: true}
			for _, component := range *bill.Components {
				if references[component.BOMRef] {
					t.Errorf("%s is there twice, want it once", component.BOMRef)
				}
				references[component.BOMRef] = true
				if component.PackageURL != "pkg:golang/"+component.Name+"@"+strings.ReplaceAll(component.Version, "+", "%2B") {
					t.Errorf("%s %s: got package URL %s, want that of this version", component.Name, component.Version, component.PackageURL)
				}
				if component.Licenses == nil || len(*component.Licenses) == 0 {
					t.Errorf("%s: got no license, want at least one", component.Name)
				}
				if component.Name == standard {
					continue
				}
				modules = append(modules, component.Name+"@"+component.Version)
				if component.Hashes == nil || len(*component.Hashes) != 1 || len((*component.Hashes)[0].Value) != 64 {
					t.Errorf("%s: got hashes %v, want one SHA-256", component.Name, component.Hashes)
				}
			}
			want := linkedModules(t, file)
			slices.Sort(want)
			slices.Sort(modules)
			if !slices.Equal(modules, want) {
				t.Errorf("modules: got %q\nwant %q", modules, want)
			}
			if len(modules)+1 != len(*bill.Components) {
				t.Errorf("got %d components for %d modules, want Go's own library beside them", len(*bill.Components), len(modules))
			}
			if !slices.ContainsFunc(modules, func(module string) bool { return strings.HasPrefix(module, test.has+"@") }) {
				t.Errorf("got %q, want %s among them", modules, test.has)
			}
			checkGraph(t, &bill, references)
		})
	}
}

// checkGraph holds that every component is reached from the program, and nothing else is.
func checkGraph(t *testing.T, bill *cyclonedx.BOM, references map[string]bool) {
	t.Helper()
	needs := map[string][]string{}
	for _, dependency := range *bill.Dependencies {
		if !references[dependency.Ref] {
			t.Errorf("dependencies of %s: want only those of components", dependency.Ref)
		}
		if dependency.Dependencies != nil {
			needs[dependency.Ref] = *dependency.Dependencies
		}
	}
	reached := map[string]bool{}
	next := []string{bill.Metadata.Component.BOMRef}
	for len(next) > 0 {
		at := next[0]
		next = next[1:]
		if !references[at] {
			t.Errorf("something depends on %q, which is no component", at)
		}
		if !reached[at] {
			reached[at] = true
			next = append(next, needs[at]...)
		}
	}
	for reference := range references {
		if !reached[reference] {
			t.Errorf("nothing depends on %s, want a way to it from the program", reference)
		}
	}
}

func TestProgramOfOtherSources(t *testing.T) {
	module := func(path, version string) *debug.Module { return &debug.Module{Path: path, Version: version} }
	listed := []dependency.Module{{Path: "a", Version: "v1"}, {Path: "b", Version: "v1"}}
	tests := []struct {
		name   string
		linked []*debug.Module
		want   string // empty: they agree
	}{
		{name: "the same", linked: []*debug.Module{module("a", "v1"), module("b", "v1")}},
		{
			name:   "the same, by a replacement",
			linked: []*debug.Module{module("a", "v1"), {Path: "b", Version: "v0", Replace: module("c", "v1")}},
		},
		{name: "an older one", linked: []*debug.Module{module("a", "v0"), module("b", "v1")}, want: `it has a v0, and the sources "v1"`},
		{name: "one more", linked: []*debug.Module{module("a", "v1"), module("b", "v1"), module("c", "v1")}, want: `it has c v1, and the sources ""`},
		{name: "one less", linked: []*debug.Module{module("a", "v1")}, want: "it does not have b, and the sources v1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := program{info: &debug.BuildInfo{Deps: test.linked}, modules: listed}
			err := p.agrees()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no version", []string{text}, "want -version"},
		{"no program", []string{"-version", "v1"}, "want -version"},
		{"what is no program", []string{"-version", "v1", text}, text + ": reading what it was built of"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := run(t.Context(), test.args, t.Output(), t.Output()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}
