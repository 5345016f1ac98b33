package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeIsFresh: the page says what values.yaml says.
func TestReadmeIsFresh(t *testing.T) {
	chart := filepath.Join("..", "..", "deploy", "kubernetes", "meshvm-syncer")
	readme, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := replace(readme, filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fresh, readme) {
		t.Error("The chart's README.md is stale; run make chart-readme")
	}
}

func TestDescribe(t *testing.T) {
	tests := []struct {
		name, values string
		want         []string // rows, after the table's head
		err          string
	}{
		{name: "a value", values: "# -- How many.\nreplicas: 2\n", want: []string{"| `replicas` | `2` | How many. |"}},
		{name: "over two lines", values: "# -- One\n# and two.\na: x\n", want: []string{"| `a` | `\"x\"` | One and two. |"}},
		{name: "in a mapping", values: "# Not for people.\na:\n  # -- Inner.\n  b: []\n", want: []string{"| `a.b` | `[]` | Inner. |"}},
		{name: "a mapping as a whole", values: "# -- All.\na:\n  b: 1\n", want: []string{"| `a` | `{\"b\":1}` | All. |"}},
		{name: "a bar in the text", values: "# -- One | two.\na: 1\n", want: []string{`| ` + "`a` | `1`" + ` | One \| two. |`}},
		{name: "nothing said", values: "a: 1\n", err: "line 1: a has no description"},
		{name: "nothing said within", values: "a:\n  b: 1\n", err: "line 2: a.b has no description"},
		{name: "no mapping", values: "- a\n", err: "want a mapping"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			table, err := describe([]byte(test.values))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want an error with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSpace(table), "\n")[2:]
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
