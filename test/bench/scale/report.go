package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figure is one thing measured, several times.
type figure struct {
	Scenario string    `json:"scenario"`
	VMs      int       `json:"vms"`
	Services int       `json:"services"`
	Name     string    `json:"name"`
	Unit     string    `json:"unit"`
	Median   float64   `json:"median"`
	Min      float64   `json:"min"`
	Max      float64   `json:"max"`
	Values   []float64 `json:"values"`
}

// report is what was measured, and where.
type report struct {
	Machine machine   `json:"machine"`
	Figures []*figure `json:"figures"`
	Notes   []string  `json:"notes,omitempty"`
}

type machine struct {
	CPUs   int     `json:"cpus"`
	Go     string  `json:"go"`
	System string  `json:"system"`
	Before string  `json:"load_before"`
	After  string  `json:"load_after"`
	Took   float64 `json:"seconds"`
}

func newReport() *report {
	return &report{Machine: machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Before: load()}}
}

// load is the machine's load averages: what else runs makes every time longer.
func load() string {
	said, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(said))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// add adds a measurement to its figure.
func (r *report) add(scenario string, vms, services int, name, unit string, value float64) {
	i := slices.IndexFunc(r.Figures, func(f *figure) bool {
		return f.Scenario == scenario && f.VMs == vms && f.Services == services && f.Name == name
	})
	if i < 0 {
		i = len(r.Figures)
		r.Figures = append(r.Figures, &figure{Scenario: scenario, VMs: vms, Services: services, Name: name, Unit: unit})
	}
	f := r.Figures[i]
	f.Values = append(f.Values, value)
	sorted := slices.Sorted(slices.Values(f.Values))
	f.Median, f.Min, f.Max = median(sorted), sorted[0], sorted[len(sorted)-1]
}

// note adds what explains a figure.
func (r *report) note(format string, arguments ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, arguments...))
}

func median(sorted []float64) float64 {
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// quantile is the value that a share of the sorted delays does not exceed, in milliseconds.
func quantile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	i := int(math.Ceil(share*float64(len(sorted)))) - 1
	return float64(sorted[max(0, i)].Microseconds()) / 1000
}

func (r *report) write(out io.Writer, asJSON bool, took time.Duration) error {
	r.Machine.After, r.Machine.Took = load(), math.Round(took.Seconds())
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	m := r.Machine
	var text strings.Builder
	fmt.Fprintf(&text, "%d CPUs, shared by syncer and VMs; %s, %s; load %s before, %s after; %.0f s\n\n", m.CPUs, m.Go, m.System, m.Before, m.After, m.Took)
	text.WriteString("| Scenario | VMs | Services | Figure | Median | Min..max | Unit |\n|---|--:|--:|---|--:|--:|---|\n")
	for _, f := range r.Figures {
		fmt.Fprintf(&text, "| %s | %d | %d | %s | %s | %s..%s | %s |\n", f.Scenario, f.VMs, f.Services, f.Name, short(f.Median), short(f.Min), short(f.Max), f.Unit)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&text, "\n%s\n", note)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// short is a number to three digits.
func short(value float64) string {
	switch size := math.Abs(value); {
	case math.IsNaN(value):
		return "none"
	case size >= 100:
		return strconv.FormatFloat(value, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(value, 'f', 1, 64)
	default:
		return strconv.FormatFloat(value, 'f', 2, 64)
	}
}
