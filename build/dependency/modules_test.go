package dependency

import (
	"slices"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	const root = "../.."
	tests := []struct {
		name   string
		target Target
		want   []string // paths of modules among those found
		never  []string
	}{
		{
			name:   "a program has what it is linked with",
			target: Target{Root: root, Packages: []string{"./build/coredns"}, Environment: []string{"GOOS=linux"}},
			want:   []string{"github.com/coredns/coredns", "github.com/miekg/dns", "google.golang.org/grpc"},
			never:  []string{"github.com/meshvm/meshvm", "k8s.io/client-go", "go.uber.org/goleak", "std", ""},
		},
		{
			name:   "tests have what they need beside",
			target: Target{Root: root, Packages: []string{"./plugin/watch"}, Tests: true},
			want:   []string{"google.golang.org/grpc", "go.uber.org/goleak"},
			never:  []string{"github.com/meshvm/meshvm", "k8s.io/client-go"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			modules, direct, err := Of(t.Context(), test.target)
			if err != nil {
				t.Fatal(err)
			}
			var paths []string
			for _, module := range modules {
				paths = append(paths, module.Path)
				if module.Version == "" || module.Dir == "" || len(module.Folders) == 0 {
					t.Errorf("module %+v: want a version, a folder, and folders of packages", module)
				}
			}
			for _, module := range modules {
				for _, needed := range module.Requires {
					if !slices.Contains(paths, needed) || needed == module.Path {
						t.Errorf("%s requires %s: want another of the modules found", module, needed)
					}
				}
			}
			if !slices.IsSorted(paths) {
				t.Errorf("got %q, want them sorted", paths)
			}
			for _, want := range test.want {
				if !slices.Contains(paths, want) {
					t.Errorf("got %q, want %s among them", paths, want)
				}
				if !slices.Contains(direct, want) {
					t.Errorf("direct: got %q, want %s among them", direct, want)
				}
			}
			for _, never := range test.never {
				if slices.Contains(paths, never) {
					t.Errorf("got %q, want no %q", paths, never)
				}
			}
		})
	}
}

func TestOfNothing(t *testing.T) {
	_, _, err := Of(t.Context(), Target{Packages: []string{"./nowhere"}})
	if err == nil || !strings.Contains(err.Error(), "./nowhere") {
		t.Errorf("got error %v, want one that names ./nowhere", err)
	}
}
