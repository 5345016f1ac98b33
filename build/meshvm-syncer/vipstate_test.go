package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/syncer/vip/statefile"
	"github.com/meshvm/meshvm/test/transcript"
)

func TestStateFileFlags(t *testing.T) {
	tests := map[string]struct {
		args       []string
		file, want string
	}{
		"with manifests, where the service manager has it": {[]string{"--manifests", "m", "--vip", "allocate"}, defaultStateFile, ""},
		"with manifests, elsewhere":                        {[]string{"--manifests", "m", "--vip", "allocate", "--vip-state-file", "f"}, "f", ""},
		"with a cluster there is none":                     {[]string{"--vip", "allocate"}, "", ""},
		"with status there is none":                        {[]string{"--manifests", "m"}, "", ""},
		"said with a cluster":                              {[]string{"--vip", "allocate", "--vip-state-file", "f"}, "", "--vip-state-file goes with --vip allocate and --manifests only"},
		"said with status":                                 {[]string{"--manifests", "m", "--vip-state-file", "f"}, "", "--vip-state-file goes with --vip allocate and --manifests only"},
		"empty":                                            {[]string{"--manifests", "m", "--vip", "allocate", "--vip-state-file", ""}, "", "--vip-state-file is empty: want a path"},
		"a namespace, which a folder has not":              {[]string{"--manifests", "m", "--vip", "allocate", "--vip-namespace", "n"}, "", "--vip-namespace goes with a cluster only"},
		"writes, of which there are none":                  {[]string{"--manifests", "m", "--vip", "allocate", "--vip-qps", "5"}, "", "--vip-qps goes with a cluster only"},
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
			if err != nil || got.vipState != test.file {
				t.Errorf("State file: got %q and %v, want %q and no error", got.vipState, err, test.file)
			}
		})
	}
}

// TestStateFilesThatAreRefused: a syncer that cannot keep what it gives does not start.
func TestStateFilesThatAreRefused(t *testing.T) {
	root := t.TempDir()
	folder, link := filepath.Join(root, "manifests"), filepath.Join(root, "link")
	for _, dir := range []string{folder, filepath.Join(folder, "below")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	damaged, taken := filepath.Join(root, "damaged"), filepath.Join(root, "taken")
	if err := os.WriteFile(damaged, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := statefile.Open(taken)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, test := range map[string]struct{ file, want string }{
		"among the manifests":           {filepath.Join(folder, "vips.json"), "it is in the folder of manifests"},
		"below the manifests":           {filepath.Join(folder, "below", "vips.json"), "it is in the folder of manifests"},
		"among them, by another name":   {filepath.Join(link, "vips.json"), "it is in the folder of manifests"},
		"in a folder that is not there": {filepath.Join(root, "absent", "vips.json"), "its folder must be there"},
		"damaged":                       {damaged, "it is no ledger of virtual IPs"},
		"another syncer's":              {taken, "another syncer uses it"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr transcript.Transcript
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			code := run(ctx, []string{"--manifests", folder, "--vip", "allocate", "--vip-state-file", test.file,
				"--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"}, &stdout, &stderr)
			for _, want := range []string{"--vip-state-file", test.file, test.want} {
				if code != exitFault || !strings.Contains(stderr.String(), want) {
					t.Errorf("exit %d, stderr %q; want exit 1 with %q", code, stderr.String(), want)
				}
			}
		})
	}
}
