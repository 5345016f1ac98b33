package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/test/transcript"
)

func TestGuardFlags(t *testing.T) {
	got, err := parse([]string{"--insecure"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (registry.GuardOptions{Share: 0.5, Minimum: 20, Window: time.Minute, Hold: 10 * time.Minute}); got.guard != want {
		t.Errorf("Guard without flags: got %+v, want %+v", got.guard, want)
	}
	got, err = parse([]string{"--insecure", "--shrink-guard-share", "0.3", "--shrink-guard-minimum", "5", "--shrink-guard-window", "2m", "--shrink-guard-hold", "1h"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (registry.GuardOptions{Share: 0.3, Minimum: 5, Window: 2 * time.Minute, Hold: time.Hour}); got.guard != want {
		t.Errorf("Guard: got %+v, want %+v", got.guard, want)
	}
	if got, err := parse([]string{"--insecure", "--shrink-guard-share", "0"}); err != nil || got.guard.Share != 0 {
		t.Errorf("Guard that is off: got %+v and %v, want no share and no error", got.guard, err)
	}
	for flag, want := range map[string]string{
		"--shrink-guard-share=1":    "--shrink-guard-share 1: want at least 0 and less than 1",
		"--shrink-guard-share=-0.5": "--shrink-guard-share -0.5: want at least 0",
		"--shrink-guard-share=NaN":  "--shrink-guard-share NaN: want at least 0",
		"--shrink-guard-share=50%":  "--shrink-guard-share",
		"--shrink-guard-minimum=0":  "--shrink-guard-minimum 0: want at least 1",
		"--shrink-guard-window=0s":  "--shrink-guard-window 0s: want a time such as 1m",
		"--shrink-guard-hold=-1m":   "--shrink-guard-hold -1m0s: want a time such as 10m",
		"--shrink-guard-hold=10":    "--shrink-guard-hold",
	} {
		t.Run(flag, func(t *testing.T) {
			if _, err := parse([]string{"--insecure", flag}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("parse: got %v, want an error with %q", err, want)
			}
		})
	}
}

// TestAFolderThatIsEmptied: the names of manifests that all go at once stay until somebody says so.
func TestAFolderThatIsEmptied(t *testing.T) {
	folder := t.TempDir()
	for i := range 30 {
		manifest := strings.Replace(manifests, "name: reviews", fmt.Sprintf("name: s%d", i), 1)
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.yaml", i)), []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr transcript.Transcript
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{
			"--manifests", folder, "--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json",
		}, &stdout, &stderr)
	}()
	address := ""
	waitFor(t, "the log says where it serves", func() bool {
		address = logged(stderr.String(), "serving", "http")
		return address != ""
	})
	waitFor(t, "it is ready", func() bool { return get(address, "/readyz") == "ok\n" })
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) != 30 {
		t.Fatalf("Manifests: got %d and %v, want 30", len(files), err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	const held, resources = `meshvm_syncer_guard_held_resources{kind="Service",source="manifests"} 30`, "\nmeshvm_syncer_registry_resources 30\n"
	waitFor(t, "all names are held", func() bool { return strings.Contains(get(address, "/metrics"), held) })
	if got := get(address, "/metrics"); !strings.Contains(got, resources) {
		t.Error("/metrics: want 30 resources still in the registry")
	}
	if got := logged(stderr.String(), "holding back removals, the names stay for now", "kind"); got != "Service" {
		t.Errorf("Kind in the log: got %q, want Service\n%s", got, stderr.String())
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Post("http://"+address+"/guard/release", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("POST /guard/release: got %s, want 200", response.Status)
	}
	if got := get(address, "/metrics"); !strings.Contains(got, "\nmeshvm_syncer_registry_resources 0\n") {
		t.Error("/metrics: want no resources after the release")
	}
	cancel()
	select {
	case code := <-ended:
		if code != exitDone {
			t.Errorf("Exit: got %d, want 0\n%s", code, stderr.String())
		}
	case <-time.After(patience):
		t.Fatalf("still running %s after the stop\n%s", patience, stderr.String())
	}
}
