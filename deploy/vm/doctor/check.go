package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/meshvm/meshvm/plugin/status"
)

// Verdict is what a check comes to.
type Verdict string

// Verdicts, the best first.
const (
	// OK: it is as it should be.
	OK Verdict = "ok"
	// Unknown: it could not be looked at, which may be for want of rights.
	Unknown Verdict = "unknown"
	// Warning: it works, and something could be in the way of some programs, or will be.
	Warning Verdict = "warning"
	// Problem: names of the mesh do not resolve, or will not soon.
	Problem Verdict = "problem"
)

// Finding is what one check has seen.
type Finding struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Seen    string  `json:"seen"`
	// Remedy is what to do. Empty where nothing is wrong.
	Remedy string `json:"remedy,omitempty"`
}

// patience bounds Run, and each check in it.
const patience = 10 * time.Second

// examination is one Run.
type examination struct {
	Machine
	report    status.Report
	reportErr error
}

// check looks at one thing. What it finds has its name, unless it says otherwise. Nothing found is OK.
type check struct {
	name string
	look func(context.Context, *examination) []Finding
}

func checks() []check {
	return []check{
		{"units", units},
		{"status socket", statusSocket},
		{"port", ports},
		{"answers", answers},
		{"redirect", standing},
		{"upstreams", upstreams},
		{"resolver", resolver},
		{"nsswitch", nameServices},
		{"caches", caches},
		{"containers", containers},
		{"search list", searchList},
		{"istio", istio},
		{"clock", clock},
		{"credentials", credentials},
		{"file permissions", permissions},
		{"snapshot", snapshot},
		{"syncer", syncers},
	}
}

// Run does all checks at once, and takes ten seconds at most. The findings are in the order of the checks, with at least one each.
func Run(ctx context.Context, m Machine) []Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e := &examination{Machine: m}
	asking, done := context.WithTimeout(ctx, patience/3)
	e.report, e.reportErr = m.Report(asking)
	done()

	all := checks()
	found := make([][]Finding, len(all))
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() { found[i] = c.run(ctx, e) })
	}
	group.Wait()
	var findings []Finding
	for _, f := range found {
		findings = append(findings, f...)
	}
	return findings
}

func (c check) run(ctx context.Context, e *examination) []Finding {
	findings := c.look(ctx, e)
	for i := range findings {
		if findings[i].Name == "" {
			findings[i].Name = c.name
		}
	}
	return findings
}

// Worst is the worst verdict of some findings.
func Worst(findings []Finding) Verdict {
	worst := OK
	for _, f := range findings {
		if rank(f.Verdict) > rank(worst) {
			worst = f.Verdict
		}
	}
	return worst
}

func rank(v Verdict) int {
	switch v {
	case Problem:
		return 3
	case Warning:
		return 2
	case Unknown:
		return 1
	default:
		return 0
	}
}

func fine(format string, args ...any) Finding {
	return Finding{Verdict: OK, Seen: fmt.Sprintf(format, args...)}
}

func unknown(remedy string, err error) Finding {
	return Finding{Verdict: Unknown, Seen: err.Error(), Remedy: remedy}
}

func bad(verdict Verdict, remedy, format string, args ...any) Finding {
	return Finding{Verdict: verdict, Seen: fmt.Sprintf(format, args...), Remedy: remedy}
}

// orFine is what was found, or that all is well.
func orFine(findings []Finding, format string, args ...any) []Finding {
	if len(findings) == 0 {
		return []Finding{fine(format, args...)}
	}
	return findings
}
