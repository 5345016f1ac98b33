// Package packages holds what the scripts of the packages do. Packages as a whole are tested on machines.
package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	tests := []struct{ name, described, want string }{
		{"release", "v1.2.3", "1.2.3"},
		{"release without v", "1.2.3", "1.2.3"},
		{"after a release", "v1.2.3-4-g5678abc", "1.2.3+4.g5678abc"},
		{"after a release, with edits", "v1.2.3-4-g5678abc-dirty", "1.2.3+4.g5678abc.dirty"},
		{"release with edits", "v1.2.3-dirty", "1.2.3+dirty"},
		{"before a release", "v1.2.3-rc.1", "1.2.3~rc.1"},
		{"before a release, in two words", "v1.2.3-beta-2", "1.2.3~beta.2"},
		{"after what is before a release", "v1.2.3-rc.1-4-g5678abc", "1.2.3~rc.1+4.g5678abc"},
		{"no release yet", "5678abc", "0.0.0+5678abc"},
		{"no release yet, with edits", "5678abc-dirty", "0.0.0+5678abc.dirty"},
		{"no git", "dev", "0.0.0+dev"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			said, err := exec.CommandContext(t.Context(), "sh", "version.sh", test.described).CombinedOutput() // #nosec G204 -- of the table
			if got := strings.TrimSpace(string(said)); err != nil || got != test.want {
				t.Errorf("version of %s: got %q and %v, want %q", test.described, got, err, test.want)
			}
		})
	}
}

// run runs a maintainer script on a machine in a folder, and returns the commands that it runs, none of which does anything.
func run(t *testing.T, script, argument string) []string {
	t.Helper()
	root, commands := t.TempDir(), t.TempDir()
	log := filepath.Join(commands, "log")
	for _, name := range []string{"chown", "getent", "groupdel", "meshvmctl", "rm", "systemctl", "systemd-sysusers", "userdel"} {
		fake := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>%s\n", name, log)
		if err := os.WriteFile(filepath.Join(commands, name), []byte(fake), 0o700); err != nil { // #nosec G306 -- it is a program
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "etc/meshvm"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("scripts", script))
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer(" /etc/", " "+root+"/etc/", " /var/", " "+root+"/var/", " /run/", " "+root+"/run/").Replace(string(text))
	command := exec.CommandContext(t.Context(), "/bin/sh", "-c", moved, script, argument) // #nosec G204 -- this repository's
	command.Env = []string{"PATH=" + commands}
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", script, argument, err, said)
	}
	said, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	ran := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(said), root, "")), "\n")
	return slices.DeleteFunc(ran, func(line string) bool { return line == "" })
}

// TestScripts: of an image, in which systemd does not run.
func TestScripts(t *testing.T) {
	const units = "systemctl --no-reload disable meshvm-redirect.service meshvm.service meshvm-redirect-recover.service"
	gone := []string{
		"rm -rf /var/lib/meshvm /var/lib/meshvm-redirect /run/meshvm /run/meshvm-redirect",
		"getent group meshvm", "chown -hR --from=:meshvm :root /etc/meshvm", "getent passwd meshvm", "chown -hR --from=meshvm root /etc/meshvm",
		"getent passwd meshvm", "userdel meshvm", "getent group meshvm", "groupdel meshvm",
	}
	tests := []struct {
		name, script, argument string
		want                   []string
	}{
		{"deb is installed or upgraded", "postinst.sh", "configure", []string{"systemd-sysusers /usr/lib/sysusers.d/meshvm.conf"}},
		{"deb is not upgraded after all", "postinst.sh", "abort-upgrade", nil},
		{"deb is about to be upgraded", "prerm.sh", "upgrade", nil},
		{"deb is about to be removed", "prerm.sh", "remove", []string{units, "meshvmctl redirect revert"}},
		{"deb was upgraded", "postrm.sh", "upgrade", nil},
		{"deb was removed", "postrm.sh", "remove", nil},
		{"rpm is installed", "postinst.sh", "1", []string{"systemd-sysusers /usr/lib/sysusers.d/meshvm.conf"}},
		{"rpm is upgraded", "postinst.sh", "2", []string{"systemd-sysusers /usr/lib/sysusers.d/meshvm.conf"}},
		{"rpm of before is about to go", "prerm.sh", "1", nil},
		{"rpm is about to be erased", "prerm.sh", "0", []string{units, "meshvmctl redirect revert"}},
		{"rpm of before has gone", "postrm.sh", "1", nil},
		// The bundle stays, and nobody reads it who gets the numbers of its owners next.
		{"rpm was erased", "postrm.sh", "0", gone},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := run(t, test.script, test.argument); !slices.Equal(got, test.want) {
				t.Errorf("%s %s runs: got %q, want %q", test.script, test.argument, got, test.want)
			}
		})
	}
}
