// Package structure holds the house rules that no compiler checks: what lies at the
// top, which package may know which, and what each binary may link.
package structure

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/meshvm/meshvm"

// goList runs go list at the root of the module and returns the lines it prints.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	command := exec.Command("go", append([]string{"list"}, args...)...)
	command.Dir = root(t)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, &stderr)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if len(lines) == 0 || lines[0] == "" {
		t.Fatalf("%v printed nothing", command)
	}
	return lines
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// within reports whether a package is at path or below it.
func within(pkg, path string) bool {
	return pkg == path || strings.HasPrefix(pkg, path+"/")
}

// TestBinaries holds what each binary may link. A VM gets no Kubernetes client,
// and the cluster no DNS server; of each other they know the wire format only.
func TestBinaries(t *testing.T) {
	tests := []struct {
		binary string
		links  []string // what shows that the list is of the right binary
		never  []string
	}{
		{
			binary: "./build/coredns",
			links:  []string{module + "/plugin", module + "/syncer/api/v1", "github.com/coredns/coredns/core/dnsserver"},
			never: []string{
				"k8s.io", "sigs.k8s.io", "istio.io",
				"github.com/coredns/coredns/core/plugin",
				module + "/syncer/registry", module + "/syncer/source", module + "/syncer/vip", module + "/syncer/server",
				"testing",
			},
		},
		{
			binary: "./build/meshvm-syncer",
			links:  []string{module + "/syncer/registry", module + "/syncer/api/v1", "k8s.io/client-go/tools/cache"},
			never:  []string{"github.com/coredns", module + "/plugin", "testing"},
		},
	}
	for _, test := range tests {
		t.Run(test.binary, func(t *testing.T) {
			deps := goList(t, "-deps", test.binary)
			for _, want := range test.links {
				if !slices.Contains(deps, want) {
					t.Errorf("%s does not link %s, want it to", test.binary, want)
				}
			}
			for _, dep := range deps {
				for _, never := range test.never {
					if within(dep, never) {
						t.Errorf("%s links %s, want nothing of %s", test.binary, dep, never)
					}
				}
			}
		})
	}
}

// TestDirection holds the one direction in which packages know each other. Each
// package of the two sides has a rule, the longest that fits.
func TestDirection(t *testing.T) {
	const api = "syncer/api/v1"
	rules := map[string][]string{ // package: what of this module it may import
		"plugin":                {"plugin/mirror", "plugin/watch", "plugin/status", api},
		"plugin/mirror":         {"plugin/mirror", api},
		"plugin/status":         nil, // It is told, and knows nobody.
		"plugin/watch":          {"plugin/watch", "plugin/mirror", api},
		api:                     nil,
		"syncer/registry":       {api},
		"syncer/vip":            nil, // It decides, and knows nobody.
		"syncer/vip/statefile":  {"syncer/vip"},
		"syncer/vip/kubernetes": {"syncer/vip", "syncer/source"},
		"syncer/source":         {"syncer/source", "syncer/registry", "syncer/vip", api},
		"syncer/identity":       {"syncer/identity"},
		"syncer/server":         {"syncer/server", "syncer/registry", "syncer/vip", "syncer/identity", api},
	}
	ruled := map[string]bool{}
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./plugin/...", "./syncer/...") {
		pkg, imports, _ := strings.Cut(line, " ")
		name := strings.TrimPrefix(pkg, module+"/")
		rule := ""
		for candidate := range rules {
			if within(name, candidate) && len(candidate) > len(rule) {
				rule = candidate
			}
		}
		if rule == "" || rule == "plugin" && name != "plugin" {
			t.Errorf("Package %s has no rule; want one that says what it may import", name)
			continue
		}
		ruled[rule] = true
		for imported := range strings.FieldsSeq(imports) {
			internal, ours := strings.CutPrefix(imported, module+"/")
			if ours && !slices.ContainsFunc(rules[rule], func(allowed string) bool { return within(internal, allowed) }) {
				t.Errorf("Package %s imports %s, want only %q of this module", name, internal, rules[rule])
			}
			if within(imported, "github.com/coredns") && name != "plugin" {
				t.Errorf("Package %s imports %s, want only package plugin to know CoreDNS", name, imported)
			}
		}
	}
	for _, rule := range []string{"plugin", "plugin/mirror", "plugin/watch", "plugin/status", api, "syncer/registry", "syncer/vip", "syncer/source", "syncer/server"} {
		if !ruled[rule] {
			t.Errorf("No package follows the rule for %s, want one", rule)
		}
	}
}

// TestNames holds that a package's name says what it holds.
func TestNames(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "misc", "shared", "base", "lib"}
	for _, pkg := range goList(t, "./...") {
		if slices.Contains(empty, path.Base(pkg)) {
			t.Errorf("Package %s has a name that says nothing", pkg)
		}
	}
}

// TestTopLevel holds what a newcomer sees first. Files that start with a dot, and
// bin, which git ignores, do not count.
func TestTopLevel(t *testing.T) {
	want := []string{"LICENSE", "Makefile", "README.md", "SECURITY.md", "build", "corefile", "deploy", "go.mod", "go.sum", "plugin", "syncer", "test"}
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		if name := entry.Name(); name != "bin" && !strings.HasPrefix(name, ".") {
			got = append(got, name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("Got %q\nwant %q", got, want)
	}
}

// TestFileNames holds that Go files are named as in CoreDNS: lower case, without
// hyphens.
func TestFileNames(t *testing.T) {
	err := filepath.WalkDir(root(t), func(file string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "bin" || strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		} else if strings.HasSuffix(name, ".go") && (strings.Contains(name, "-") || strings.ToLower(name) != name) {
			t.Errorf("File %s: want a name in lower case without hyphens", file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
