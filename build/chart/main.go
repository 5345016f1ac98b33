// Command chart writes the table of values in the chart's README from the comments of values.yaml, where each value has one
// that begins with "# --".
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

const (
	begin = "<!-- Values: written by make chart-readme -->\n"
	end   = "<!-- End of values -->\n"
)

func main() {
	chart := flag.String("chart", "deploy/kubernetes/meshvm-syncer", "`folder` of the chart")
	flag.Parse()
	if err := write(*chart); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

// write puts the table into README.md of the chart.
func write(chart string) error {
	file := filepath.Join(chart, "README.md")
	readme, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	fresh, err := replace(readme, filepath.Join(chart, "values.yaml"))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, fresh, 0o644) //nolint:gosec // A page of documentation, which everybody may read.
}

// replace is the page with the table of the values in file between its two marks.
func replace(readme []byte, file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	table, err := describe(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	before, rest, found := bytes.Cut(readme, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return nil, errors.New("the marks are missing that the table of values stands between")
	}
	return bytes.Join([][]byte{before, []byte(begin), []byte("\n" + table + "\n"), []byte(end), after}, nil), nil
}
