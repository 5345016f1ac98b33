package meshvm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// TestRedirectMode holds what the metric says by what meshvmctl redirect has written.
func TestRedirectMode(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		make    func(file string) error
		want    string // Empty: there is no metric.
	}{
		"nothing applied":            {want: "none"},
		"applied":                    {content: `{"version": 1, "plan": {"mode": "resolved", "why": "it is so"}, "applied": true, "backup": {"content": "YQ=="}}`, want: "resolved"},
		"applied directly":           {content: `{"version": 1, "plan": {"mode": "direct"}, "applied": true}`, want: "direct"},
		"only transparently":         {content: `{"version": 1, "plan": {"mode": "none", "transparent": true}, "applied": true}`, want: "none"},
		"withdrawn":                  {content: `{"version": 1, "plan": {"mode": "direct"}, "applied": true, "withdrawn": "since then"}`, want: "none"},
		"being applied":              {content: `{"version": 1, "plan": {"mode": "direct"}, "applied": false}`, want: "none"},
		"torn":                       {content: `{"version": 1, "plan": {"mo`},
		"empty":                      {content: " "},
		"a mode of another version":  {content: `{"version": 2, "plan": {"mode": "magic"}, "applied": true}`},
		"larger than anybody writes": {content: strings.Repeat(" ", redirectStateLimit) + `{"plan": {"mode": "direct"}, "applied": true}`},
		"a pipe that nobody writes":  {make: func(file string) error { return unix.Mkfifo(file, 0o600) }},
		"a folder":                   {make: func(file string) error { return os.Mkdir(file, 0o700) }},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "state.json")
			if c.content != "" {
				c.make = func(file string) error { return os.WriteFile(file, []byte(c.content), 0o600) }
			}
			if c.make != nil {
				if err := c.make(file); err != nil {
					t.Fatal(err)
				}
			}
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(redirectMode{file})
			families, err := registry.Gather()
			if err != nil {
				t.Fatalf("Gather: %v", err)
			}
			var inForce []string
			modes := 0
			for _, family := range families {
				for _, metric := range family.GetMetric() {
					modes++
					if metric.GetGauge().GetValue() == 1 {
						inForce = append(inForce, metric.GetLabel()[0].GetValue())
					}
				}
			}
			if got := strings.Join(inForce, " "); got != c.want {
				t.Errorf("Mode in force: got %q, want %q", got, c.want)
			}
			if want := len(redirectModes); modes != want && c.want != "" || modes != 0 && c.want == "" {
				t.Errorf("Modes: got %d, want %d, or none where nobody can tell", modes, want)
			}
		})
	}
}
