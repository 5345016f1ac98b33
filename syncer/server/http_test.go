package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// get asks the syncer over HTTP, with a connection of its own.
func (s *syncer) get(path string) (code int, body string) {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get(s.http + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestHealthAndReadiness(t *testing.T) {
	s := startUnsynced(t, registry.Options{}, nil)
	other := s.registry.AddSource("kubernetes")
	expect := func(path string, code int, text string) {
		t.Helper()
		if got, body := s.get(path); got != code || !strings.Contains(body, text) {
			t.Errorf("GET %s = %d %q, want %d with %q", path, got, body, code, text)
		}
	}
	expect("/healthz", http.StatusOK, "ok")
	expect("/readyz", http.StatusServiceUnavailable, "waiting for manifests, kubernetes to sync")
	s.source.Synced()
	expect("/readyz", http.StatusServiceUnavailable, "waiting for kubernetes to sync")
	other.Synced()
	expect("/readyz", http.StatusOK, "ok")
	expect("/nothing", http.StatusNotFound, "")

	s.stop()
	recorder := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if recorder.Code != http.StatusServiceUnavailable {
		t.Errorf("/readyz after the stop = %d, want 503", recorder.Code)
	}
}

func TestOnlyGetIsServed(t *testing.T) {
	s := start(t, nil)
	recorder := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/debug/registry?name=a", nil))
	if recorder.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST = %d, want 405", recorder.Code)
	}
}

func TestMetrics(t *testing.T) {
	s := start(t, nil)
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	s.apply(service("prod", "b", "10.0.0.2", registry.Public()))
	v.until("the change", func() bool { return len(v.resources) == 2 })
	code, body := s.get("/metrics")
	if code != http.StatusOK {
		t.Fatalf("GET /metrics = %d", code)
	}
	for _, want := range []string{
		`meshvm_syncer_build_info{version="v1.2.3"} 1`,
		`meshvm_syncer_source_synced{source="manifests"} 1`,
		`meshvm_syncer_source_age_seconds{source="manifests"} 0`,
		"meshvm_syncer_registry_resources 2",
		"meshvm_syncer_registry_revision 2",
		"meshvm_syncer_registry_log_revisions 2",
		"meshvm_syncer_watchers 1",
		"meshvm_syncer_views 1",
		"meshvm_syncer_watcher_lag_revisions_max 2",
		`meshvm_syncer_syncs_total{mode="full"} 1`,
		`meshvm_syncer_syncs_total{mode="resume"} 0`,
		`meshvm_syncer_frames_sent_total{mode="full"} 1`,
		`meshvm_syncer_frames_sent_total{mode="change"} 1`,
		"meshvm_syncer_watchers_lagging 0",
		"meshvm_syncer_admission_waiting 0",
		`meshvm_syncer_admissions_total{result="at_once"} 1`,
		`meshvm_syncer_refused_total{bound="address"} 0`,
		"meshvm_syncer_connections 1",
		"meshvm_syncer_heartbeats_sent_total 1",
		`meshvm_syncer_streams_total{code="Aborted"} 0`,
		"meshvm_syncer_send_timeouts_total 0",
		"meshvm_syncer_tls_reload_errors_total 0",
		"go_goroutines ",
		"process_start_time_seconds ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, subsystem) {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
}
