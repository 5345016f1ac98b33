package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/server"
)

func TestBoundFlags(t *testing.T) {
	tests := map[string]struct {
		flags []string
		want  server.Options
	}{
		"none": {nil, server.Options{
			MaxConnections: 20_000, FullSyncs: 16, FullSyncQueue: 10_000, MaxConnectionAge: time.Hour,
		}},
		"all": {[]string{
			"--max-connections=100", "--max-connections-per-address=10", "--max-streams-per-identity=20",
			"--full-syncs=4", "--full-sync-queue=50", "--max-connection-age=10m",
		}, server.Options{
			MaxConnections: 100, MaxConnectionsPerAddress: 10, MaxStreamsPerIdentity: 20,
			FullSyncs: 4, FullSyncQueue: 50, MaxConnectionAge: 10 * time.Minute,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse(append([]string{"--insecure"}, test.flags...))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.bounds, test.want) {
				t.Errorf("got %+v, want %+v", got.bounds, test.want)
			}
		})
	}
	for flag, want := range map[string]string{
		"--max-connections=0":              "--max-connections 0: want at least 1",
		"--max-connections-per-address=-1": "--max-connections-per-address -1: want at least 0",
		"--max-streams-per-identity=-1":    "--max-streams-per-identity -1: want at least 0",
		"--full-syncs=0":                   "--full-syncs 0: want at least 1",
		"--full-sync-queue=0":              "--full-sync-queue 0: want at least 1",
		"--max-connection-age=1s":          "--max-connection-age 1s: want at least 10s",
	} {
		t.Run(flag, func(t *testing.T) {
			if _, err := parse([]string{"--insecure", flag}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
}
