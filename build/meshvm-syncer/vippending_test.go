package main

import (
	"strings"
	"testing"
	"time"
)

func TestPendingFlags(t *testing.T) {
	tests := map[string]struct {
		args []string
		hold time.Duration
		want string // of the error
	}{
		"by default passed on":       {nil, 0, ""},
		"passed on":                  {[]string{"--vip-pending", "pass"}, 0, ""},
		"held for half a minute":     {[]string{"--vip-pending", "nodata"}, 30 * time.Second, ""},
		"held for as long as said":   {[]string{"--vip-pending", "nodata", "--vip-pending-timeout", "10m"}, 10 * time.Minute, ""},
		"an answer that there isn't": {[]string{"--vip-pending", "servfail"}, 0, `--vip-pending "servfail": want pass or nodata`},
		"for ever":                   {[]string{"--vip-pending", "nodata", "--vip-pending-timeout", "10m1s"}, 0, "--vip-pending-timeout 10m1s: want more than nothing and at most 10m0s"},
		"for no time":                {[]string{"--vip-pending", "nodata", "--vip-pending-timeout", "0s"}, 0, "--vip-pending-timeout 0s: want more than nothing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse(append([]string{"--insecure"}, test.args...))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("parse: got %v, want an error with %q", err, test.want)
				}
				return
			}
			if err != nil || got.translation.Pending.Hold != test.hold {
				t.Errorf("Hold: got %v and %v, want %v and no error", got.translation.Pending.Hold, err, test.hold)
			}
		})
	}
}
