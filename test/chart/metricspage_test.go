//go:build chart

package chart

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/meshvm/meshvm/test/programs"
)

var updatePage = flag.Bool("update", false, "write the tables of deploy/metrics.md")

// scrape is what a program exposes that is ours, by name; labels of families with the same name are put together.
func scrape(t *testing.T, address string, into map[string]*metricRow) {
	t.Helper()
	var body string
	eventually(t, "metrics of "+address, func() error {
		response, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		body = string(content)
		return err
	})
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range families {
		if !strings.HasPrefix(name, "meshvm_syncer_") && !strings.HasPrefix(name, "coredns_meshvm_") {
			continue
		}
		row := into[name]
		if row == nil {
			row = &metricRow{kind: strings.ToLower(family.GetType().String()), help: family.GetHelp(), labels: map[string]bool{}}
			into[name] = row
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				row.labels[label.GetName()] = true
			}
		}
	}
	lint(t, families)
}

type metricRow struct {
	kind, help string
	labels     map[string]bool
}

// lint is Prometheus' own judgement of names, units and helps of what is ours.
func lint(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	var ours []*dto.MetricFamily
	for name, family := range families {
		if strings.HasPrefix(name, "meshvm_syncer_") || strings.HasPrefix(name, "coredns_meshvm_") {
			ours = append(ours, family)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(ours).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func tableOf(rows map[string]*metricRow, prefix string) string {
	var table strings.Builder
	table.WriteString("| metric | type | labels | what it is |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if row := rows[name]; strings.HasPrefix(name, prefix) {
			var labels []string
			for _, label := range slices.Sorted(maps.Keys(row.labels)) {
				labels = append(labels, "`"+label+"`")
			}
			fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, row.kind, strings.Join(labels, ", "), strings.ReplaceAll(row.help, "|", `\|`))
		}
	}
	return table.String()
}

// TestMetricsPage: deploy/metrics.md has every metric that the programs expose, as they do, and no other. With -update it is written.
func TestMetricsPage(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.install("helm", everything)
	c.forget(t)
	rows := map[string]*metricRow{}

	syncer := c.schedule(t)
	c.balance(t, syncer)
	syncer.start(t, "--token-jwks=cluster")
	syncer.ready(t)
	m := boot(t, c.bootstrap(t, objectsNamespace))
	m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
	eventually(t, "the snapshot is saved, and virtual IPs are given", func() error {
		scrape(t, m.metrics, rows)
		scrape(t, syncer.addresses["http-metrics"], rows)
		if rows["coredns_meshvm_snapshot_bytes"] == nil || rows["meshvm_syncer_vip_addresses"] == nil {
			return errNotYet
		}
		return nil
	})
	manifests, http := t.TempDir(), programs.FreeAddress(t)
	if err := os.WriteFile(filepath.Join(manifests, "objects.yaml"), []byte(objects), 0o600); err != nil {
		t.Fatal(err)
	}
	programs.Start(t, programs.Syncer, "--manifests", manifests, "--insecure", "--listen", programs.FreeAddress(t), "--http-listen", http,
		"--vip", "allocate", "--vip-state-file", filepath.Join(t.TempDir(), "vips.json"))
	scrape(t, http, rows)

	file := filepath.Join(root, "deploy", "metrics.md")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(content)
	for heading, prefix := range map[string]string{"\n## The syncer\n": "meshvm_syncer_", "\n## CoreDNS on a VM\n": "coredns_meshvm_"} {
		before, rest, found := strings.Cut(want, heading)
		introduction, _, hasTable := strings.Cut(rest, "\n| metric ")
		_, after, _ := strings.Cut(rest, "\n\n## ")
		if !found || !hasTable {
			t.Fatalf("deploy/metrics.md has no chapter %q with a table", strings.TrimSpace(heading))
		}
		if after != "" {
			after = "\n## " + after
		}
		want = before + heading + introduction + "\n" + tableOf(rows, prefix) + after
	}
	if want == string(content) {
		return
	}
	if !*updatePage {
		t.Error("deploy/metrics.md is not what the programs expose; go test -tags chart -run TestMetricsPage ./test/chart -update writes it")
		return
	}
	if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}
