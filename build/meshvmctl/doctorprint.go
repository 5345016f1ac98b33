package main

import (
	"bufio"
	"fmt"
	"io"

	"github.com/meshvm/meshvm/deploy/vm/doctor"
)

// printDoctor writes a line for each finding, with its remedy below.
func printDoctor(w io.Writer, findings []doctor.Finding) error {
	verdict := func(v doctor.Verdict) string { return fmt.Sprintf("%-7s", v) }
	// Colours go past what keeps others' text from commanding the terminal, which is why all of that is made plain here.
	if safe, ok := w.(*terminal); ok && safe.colours {
		w = safe.to
		verdict = func(v doctor.Verdict) string {
			colour := map[doctor.Verdict]int{doctor.OK: 32, doctor.Warning: 33, doctor.Problem: 31, doctor.Unknown: 36}[v]
			return fmt.Sprintf("\x1b[%dm%-7s\x1b[0m", colour, v)
		}
	}
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	out := bufio.NewWriter(w)
	for _, f := range findings {
		fmt.Fprintf(out, "%s  %-*s  %s\n", verdict(f.Verdict), width, f.Name, plain(f.Seen))
		if f.Remedy != "" {
			fmt.Fprintf(out, "%7s  %*s  remedy: %s\n", "", width, "", plain(f.Remedy))
		}
	}
	return out.Flush()
}
