package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := runChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "syncer:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(attackerVariable) != "" {
		if err := runAttacker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "strangers:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// TestRun has every scenario run, small. The VMs prove each heartbeat on the way.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), []string{"-vms", "20", "-services", "500", "-views", "3", "-seconds", "0.2", "-idle", "0.2", "-rounds", "1", "-json"}, &out)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	var got report
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("the report is no JSON: %v\n%s", err, &out)
	}
	tests := []struct {
		scenario, figure string
		least, most      float64
	}{
		{"change", "commit to applied, p99, 10 changes/s", 1, 60_000},
		{"change", "a real mirror, commit to applied, p99, 100 changes/s", 1, 60_000},
		{"change", "message bytes per change and VM, 1 changes/s", 50, 300},
		{"memory", "goroutines per idle VM", 1, 20},
		{"cold start", "message bytes per VM", 20, 200},
		{"resume", "message bytes, of a cold start's", 0.01, 10},
		{"failover", "message bytes, of a cold start's", 0.01, 1},
		{"failover, 100 changed", "message bytes, of a cold start's", 1, 60},
		{"size", "message bytes per change and VM", 50, 300},
	}
	for _, test := range tests {
		t.Run(test.scenario+"/"+test.figure, func(t *testing.T) {
			for _, f := range got.Figures {
				if f.Scenario == test.scenario && f.Name == test.figure && f.VMs == 20 && f.Services == 500 {
					if f.Median < test.least || f.Median > test.most {
						t.Errorf("got %v %s, want between %v and %v", f.Median, f.Unit, test.least, test.most)
					}
					return
				}
			}
			t.Errorf("no such figure in\n%s", &out)
		})
	}
}

// TestStrangers has strangers come for a moment. No VM loses its connection, and another gets in.
func TestStrangers(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), []string{
		"-vms", "20", "-services", "500", "-views", "3", "-rounds", "1", "-json",
		"-scenario", "strangers", "-strangers-seconds", "0.3", "-strangers", "garbage,untrusted,no-token",
	}, &out)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	var got report
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("the report is no JSON: %v\n%s", err, &out)
	}
	for _, kind := range []string{"garbage", "untrusted", "no-token"} {
		for _, from := range []string{"one address", "many addresses"} {
			scenario := "strangers: " + kind + ", from " + from
			for _, name := range []string{"commit to applied, p99, with strangers", "until a VM of the strangers' address is let in", "strangers a second"} {
				i := slices.IndexFunc(got.Figures, func(f *figure) bool { return f.Scenario == scenario && f.Name == name })
				if i < 0 || got.Figures[i].Median <= 0 {
					t.Errorf("%s: no %q in\n%s", scenario, name, &out)
				}
			}
		}
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"no number":            {[]string{"-vms", "many"}, `-vms "many"`},
		"fewer VMs than views": {[]string{"-vms", "2"}, `-vms "2"`},
		"too many open files":  {[]string{"-vms", "50000"}, "open files"},
		"unknown scenario":     {[]string{"-scenario", "sleep"}, `-scenario "sleep"`},
		"unknown strangers":    {[]string{"-strangers", "loud"}, `-strangers "loud"`},
		"no rounds":            {[]string{"-rounds", "0"}, "one round"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := run(t.Context(), test.args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that names %s", err, test.want)
			}
		})
	}
}

// TestLedger holds what VMs of one view hold against what they were sent, whatever they were sent it in.
func TestLedger(t *testing.T) {
	digest := func(pairs ...string) (sum registryv1.Digest) {
		for _, pair := range pairs {
			key, body, _ := strings.Cut(pair, "=")
			sum.Add(registryv1.DigestResource(key, []byte(body)))
		}
		return sum
	}
	// What a VM has listed in a Compare.
	listed := []string{"a=1", "b=1"}
	delta := func(to uint64, removed []string, upserts ...string) *frame {
		f := &frame{to: to, recorded: map[*history]bool{}}
		for _, pair := range upserts {
			key, _, _ := strings.Cut(pair, "=")
			f.upserts = append(f.upserts, resource{key, digest(pair)})
			f.sum.Add(digest(pair))
		}
		for _, pair := range removed {
			f.removed = append(f.removed, uint32(slices.Index(listed, pair)))
		}
		return f
	}
	whole := delta(5, nil, "a=1", "b=1", "c=1")
	whole.replace = true
	gone := delta(9, nil, "a=3")
	gone.removals = []string{"b"}
	type step struct {
		generation string
		compared   bool
		frames     []*frame
	}
	tests := map[string]struct {
		steps []step
		want  []string
	}{
		"whole view":                {[]step{{"g", false, []*frame{whole}}}, []string{"a=1", "b=1", "c=1"}},
		"one change":                {[]step{{"g", false, []*frame{whole}}, {"g", false, []*frame{delta(7, nil, "a=2")}}}, []string{"a=2", "b=1", "c=1"}},
		"change and removal":        {[]step{{"g", false, []*frame{whole}}, {"g", false, []*frame{gone}}}, []string{"a=3", "c=1"}},
		"after a change":            {[]step{{"g", false, []*frame{whole}}, {"g", false, []*frame{delta(7, nil, "a=2")}}, {"g", false, []*frame{gone}}}, []string{"a=3", "c=1"}},
		"compared, nothing differs": {[]step{{"g", false, []*frame{whole}}, {"other", true, []*frame{delta(2, nil)}}}, []string{"a=1", "b=1", "c=1"}},
		"compared, two differ": {
			[]step{{"g", false, []*frame{whole}}, {"other", true, []*frame{delta(3, []string{"a=1", "b=1"}, "a=9")}}, {"other", false, []*frame{delta(4, nil, "c=9")}}},
			[]string{"a=9", "c=9"},
		},
	}
	l := newLedger() // one for all, as VMs share it
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var held holding
			for _, s := range test.steps {
				var err error
				if held, err = l.apply(held, s.generation, s.compared, []registryv1.Digest{digest(listed[0]), digest(listed[1])}, s.frames); err != nil {
					t.Fatalf("apply: %v", err)
				}
			}
			if held.digest != digest(test.want...) || held.resources != len(test.want) {
				t.Errorf("got %d resources with digest %x, want %d with %x", held.resources, held.digest, len(test.want), digest(test.want...))
			}
			sum := uint32(0)
			for _, bucket := range l.content(held.position).digests(16) {
				sum += bucket
			}
			if sum != held.digest.Short() {
				t.Errorf("the buckets add up to %x, want %x", sum, held.digest.Short())
			}
		})
	}
	if _, err := l.apply(holding{generation: "g", position: &position{history: &history{}, revision: 5}}, "g", false, nil, []*frame{delta(8, nil, "a=4")}); err == nil {
		t.Error("a delta of another generation was applied, want an error")
	}
}

func TestFigures(t *testing.T) {
	r := newReport()
	for _, value := range []float64{3, 1, 2, 10} {
		r.add("a", 1, 2, "b", "ms", value)
	}
	if f := r.Figures[0]; len(r.Figures) != 1 || f.Median != 2.5 || f.Min != 1 || f.Max != 10 {
		t.Errorf("got %+v, want median 2.5 of 1..10", f)
	}
	delays := make([]time.Duration, 100)
	for i := range delays {
		delays[i] = time.Duration(i+1) * time.Millisecond
	}
	if p50, p99 := quantile(delays, 0.5), quantile(delays, 0.99); p50 != 50 || p99 != 99 {
		t.Errorf("got p50 %v and p99 %v of 1..100 ms, want 50 and 99", p50, p99)
	}
}
