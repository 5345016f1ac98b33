// Package e2e tests the product as it runs: the real programs, as processes of their own, on loopback.
package e2e

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/meshvm/meshvm/test/programs"
)

func TestMain(m *testing.M) {
	if code, done := asRoot(); done {
		os.Exit(code)
	}
	// Tests that run in parallel wait more than they compute. The command line may say otherwise.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(programs.Main(m, programs.CoreDNS, programs.Syncer, programs.Operator))
}

// patience bounds every wait: far beyond what anything here takes, so that a busy machine fails
// nothing, and a hang does.
const patience = 60 * time.Second

// eventually waits until check succeeds and says how long that took.
func eventually(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	return eventuallyAt(t, 5*time.Millisecond, what, check)
}

// eventuallyAt is eventually for a check that costs something, or that takes long to succeed.
func eventuallyAt(t *testing.T, interval time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(begin)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in %v: %v", what, patience, err)
		case <-ticker.C:
		}
	}
}

// write puts a file into a folder the way careful editors do: whole or not at all.
func write(t *testing.T, folder, name, text string) {
	t.Helper()
	temp := filepath.Join(folder, "."+name+".tmp")
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}
