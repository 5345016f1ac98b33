//go:build chart

package chart

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// prometheus is a real one, of Debian, that reads syncers and VMs every second.
type prometheus struct{ address string }

func startPrometheus(t *testing.T, syncers []*pod, vms []*vm) *prometheus {
	t.Helper()
	targets := func(addresses []string) string { return `["` + strings.Join(addresses, `", "`) + `"]` }
	var ofSyncers, ofVMs []string
	for _, p := range syncers {
		ofSyncers = append(ofSyncers, p.addresses["http-metrics"])
	}
	for _, m := range vms {
		ofVMs = append(ofVMs, m.metrics)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s/rules/*.yaml]\nscrape_configs:\n  - {job_name: meshvm-syncer, static_configs: [{targets: %s}]}\n  - {job_name: meshvm-vm, static_configs: [{targets: %s}]}\n",
		chartFolder(), targets(ofSyncers), targets(ofVMs))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{address: programs.FreeAddress(t)}
	command := exec.CommandContext(t.Context(), "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.address, "--log.level=warn")
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	if err := command.Start(); err != nil {
		t.Fatalf("start prometheus: %v", err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM) // It may have ended.
		_ = command.Wait()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", &output)
		}
	})
	eventually(t, "Prometheus is ready", func() error { return p.get(t.Context(), "/api/v1/status/buildinfo", nil, new(any)) })
	return p
}

// get asks Prometheus' API.
func (p *prometheus) get(ctx context.Context, path string, query url.Values, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", path, response.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// shows is nil when an expression has a number to show.
func (p *prometheus) shows(ctx context.Context, expression string) error {
	var data struct {
		Result []struct {
			Value [2]any
		}
	}
	if err := p.get(ctx, "/api/v1/query", url.Values{"query": {expression}}, &data); err != nil {
		return err
	}
	for _, sample := range data.Result {
		text, _ := sample.Value[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
			return nil
		}
	}
	return fmt.Errorf("nothing to show for %s: %v", expression, data.Result)
}

// TestDashboardsShowSomething: with two syncers, two VMs, queries and changes, no panel of any dashboard is empty, and no rule fails.
func TestDashboardsShowSomething(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.install("helm", "{service: {type: LoadBalancer}, vip: {mode: allocate}, limits: {maxConnectionAge: 1m}}")
	c.forget(t)
	var syncers []*pod
	for range 2 {
		p := c.schedule(t)
		p.start(t)
		p.ready(t)
		syncers = append(syncers, p)
	}
	c.balance(t, syncers...)
	bundle := c.bootstrap(t, objectsNamespace)
	vms := []*vm{boot(t, bundle), boot(t, bundle)}
	for _, m := range vms {
		m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
	}
	p := startPrometheus(t, syncers, vms)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for _, m := range vms {
				for name, qtype := range map[string]uint16{"reviews.prod.svc.cluster.local": dns.TypeA, "nobody.prod.svc.cluster.local": dns.TypeAAAA, "www.example.net": dns.TypeA} {
					if _, err := m.ask(name, qtype); err != nil {
						t.Errorf("ask for %s: %v", name, err)
					}
				}
			}
			if i%5 == 0 {
				c.newService(t)
			}
		}
	}()
	defer func() { cancel(); <-ended }()

	// As Grafana fills them in.
	variables := strings.NewReplacer("$namespace", ".*", `instance=~"$instance"`, `instance=~".*"`, "$instance", vms[0].metrics)
	used := map[string]bool{}
	names := regexp.MustCompile(`\b(?:coredns|meshvm)_[a-z_]+`)
	for _, d := range dashboards(t) {
		for _, variable := range d.Templating.List {
			if variable.Definition == "" {
				continue
			}
			selector, _, _ := strings.Cut(strings.TrimPrefix(variable.Definition, "label_values("), "},")
			eventually(t, d.file+": variable "+variable.Name, func() error { return p.shows(t.Context(), selector+"}") })
		}
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				expression := variables.Replace(target.Expr)
				eventually(t, d.file+": "+panel.Title, func() error { return p.shows(t.Context(), expression) })
				for _, name := range names.FindAllString(expression, -1) {
					used[name] = true
				}
			}
		}
	}

	var groups struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, Query, State string }
		}
	}
	eventually(t, "the rules are evaluated", func() error {
		if err := p.get(t.Context(), "/api/v1/rules", nil, &groups); err != nil {
			return err
		}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				if rule.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
				}
			}
		}
		if len(groups.Groups) == 0 {
			return errNotYet
		}
		return nil
	})
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			for _, name := range names.FindAllString(rule.Query, -1) {
				used[name] = true
			}
			if rule.State == "firing" {
				t.Errorf("%s fires while all is well", rule.Name)
			}
		}
	}
	for name := range used {
		if err := p.shows(t.Context(), "count("+name+")"); err != nil {
			t.Errorf("A dashboard or a rule asks for %s, which nothing exposes: %v", name, err)
		}
	}
	if len(used) < 30 {
		t.Errorf("Got %d metrics in dashboards and rules, want more: the test does not find them", len(used))
	}
}
