//go:build chart

package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func ruleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartFolder(), "rules", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v and %v, want files of rules", files, err)
	}
	return files
}

// promtool is Prometheus' own, of Debian.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v:\n%s", args, err, output)
	}
}

// TestAlerts has Prometheus' own tool judge the rules, and play what each is for, and what it is not for.
func TestAlerts(t *testing.T) {
	promtool(t, append([]string{"check", "rules"}, ruleFiles(t)...)...)
	cases := filepath.Join(root, "test", "chart", "testdata", "alerts.yaml")
	promtool(t, "test", "rules", cases)

	played, err := os.ReadFile(cases)
	if err != nil {
		t.Fatal(err)
	}
	runbooks, err := os.ReadFile(filepath.Join(root, "deploy", "runbooks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range ruleFiles(t) {
		rules, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, alert := range strings.Split(string(rules), "- alert: ")[1:] {
			name, _, _ := strings.Cut(alert, "\n")
			ends := regexp.MustCompile(`alertname="`+name+`".*\n.*\n +exp_samples: (\S)(\S?)`).FindAllStringSubmatch(string(played), -1)
			fires := slices.ContainsFunc(ends, func(end []string) bool { return end[2] == "{" })
			quiet := slices.ContainsFunc(ends, func(end []string) bool { return end[2] == "]" })
			if !fires || !quiet {
				t.Errorf("%s: fires in a case: %t, is quiet in one: %t; want both", name, fires, quiet)
			}
			if !strings.Contains(string(runbooks), "\n## "+name+"\n") {
				t.Errorf("%s has no chapter in deploy/runbooks.md", name)
			}
			if !strings.Contains(alert, "/deploy/runbooks.md#"+strings.ToLower(name)+"\n") {
				t.Errorf("%s: runbook_url does not lead to its chapter", name)
			}
			for _, needed := range []string{"severity: ", "summary: ", "description: "} {
				if !strings.Contains(alert, needed) {
					t.Errorf("%s has no %s", name, needed)
				}
			}
		}
	}
}
