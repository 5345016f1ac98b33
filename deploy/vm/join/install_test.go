package join

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// image is a folder with what Install and CheckPackage look for.
func image(t *testing.T) Machine {
	t.Helper()
	m := Machine{Root: t.TempDir(), Run: func(context.Context, string, ...string) ([]byte, error) { return nil, nil }}
	for file, content := range map[string]string{
		"/etc/group":              fmt.Sprintf("root:x:0:\nmeshvm:x:%d:\n", os.Getegid()),
		"/usr/bin/coredns-meshvm": "", "/usr/lib/systemd/system/meshvm.service": "", "/usr/lib/systemd/system/meshvm-redirect.service": "",
		"/etc/meshvm/Corefile": "packaged\n",
	} {
		write(t, m, file, content)
	}
	return m
}

func write(t *testing.T, m Machine, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(file)), 0o755); err != nil { // #nosec G301 -- as on a VM
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path(file), []byte(content), 0o644); err != nil { // #nosec G306 -- as on a VM
		t.Fatal(err)
	}
}

// installed are the files in /etc/meshvm: mode and content by name.
func installed(t *testing.T, m Machine) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(m.path(directory))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(m.path(directory), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = info.Mode().String() + " " + string(content)
	}
	return files
}

func TestInstall(t *testing.T) {
	m, b := image(t), goodBundle(t)
	b["key.pem"] = []byte("-----BEGIN PRIVATE KEY-----\n")
	done, err := m.Install(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/etc/meshvm/ca.pem", "/etc/meshvm/key.pem", "/etc/meshvm/token", "/etc/meshvm/Corefile"}; !slices.Equal(done.Changed, want) {
		t.Errorf("Changed: got %q, want %q", done.Changed, want)
	}
	got := installed(t, m)
	for name, want := range map[string]string{
		"Corefile": "-rw-r--r-- " + goodCorefile, "Corefile.old": "-rw-r--r-- packaged\n", "ca.pem": "-rw-r--r-- " + string(b["ca.pem"]),
		"token": "-rw-r----- " + string(b["token"]), "key.pem": "-rw-r----- " + string(b["key.pem"]),
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if len(got) != 5 {
		t.Errorf("Files: got %d, want 5, and nothing left behind", len(got))
	}

	again, err := m.Install(b)
	if err != nil || len(again.Changed) != 0 {
		t.Errorf("Install again: changed %q, %v, want nothing", again.Changed, err)
	}
	if got := installed(t, m)["Corefile.old"]; !strings.HasSuffix(got, "packaged\n") {
		t.Errorf("Corefile.old after the second time: got %q, want the packaged one", got)
	}
	if err := done.Undo(); err != nil {
		t.Fatal(err)
	}
	if got := installed(t, m); len(got) != 2 || !strings.HasSuffix(got["Corefile"], "packaged\n") {
		t.Errorf("Files after Undo: got %q, want the packaged Corefile, and Corefile.old", got)
	}
}

// TestInstallGroup: the group of CoreDNS gets the secrets, as the machine numbers it. To give files away takes root.
func TestInstallGroup(t *testing.T) {
	m := image(t)
	number := os.Getegid()
	if os.Geteuid() == 0 {
		number = 4242
	}
	write(t, m, "/etc/group", fmt.Sprintf("meshvm:x:%d:\n", number))
	if _, err := m.Install(goodBundle(t)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"token": number, "Corefile": os.Getegid()} {
		info, err := os.Stat(filepath.Join(m.path(directory), name))
		if err != nil {
			t.Fatal(err)
		}
		if got := int(info.Sys().(*syscall.Stat_t).Gid); got != want {
			t.Errorf("Group of %s: got %d, want %d", name, got, want)
		}
	}
}

func TestInstallFails(t *testing.T) {
	m := image(t)
	if err := os.Mkdir(m.path("/etc/meshvm/token"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Install(goodBundle(t)); err == nil || !strings.Contains(err.Error(), "/etc/meshvm/token: it is not a regular file") {
		t.Errorf("Install: got %v, want an error that names the token", err)
	}
	if _, err := os.Stat(m.path("/etc/meshvm/ca.pem")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ca.pem after a failure: got %v, want it gone again", err)
	}
}

func TestCheckPackage(t *testing.T) {
	for _, missing := range []string{"/usr/bin/coredns-meshvm", "/usr/lib/systemd/system/meshvm.service", "/etc/group"} {
		m := image(t)
		if err := os.Remove(m.path(missing)); err != nil {
			t.Fatal(err)
		}
		if err := m.CheckPackage(); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("Without %s: got %v, want an error that names it", missing, err)
		}
	}
	m := image(t)
	if err := m.CheckPackage(); err != nil {
		t.Errorf("got %v, want none", err)
	}
	write(t, m, "/etc/group", "root:x:0:\n")
	if err := m.CheckPackage(); err == nil || !strings.Contains(err.Error(), "there is no group meshvm: install the package") {
		t.Errorf("Without the group: got %v", err)
	}
}

func TestJoinImage(t *testing.T) {
	for name, test := range map[string]struct {
		wish Wish
		fail bool
		want string
	}{
		"with the redirect":    {Wish{}, false, "enable meshvm.service meshvm-redirect.service meshvm-redirect-recover.service"},
		"without the redirect": {Wish{NoRedirect: true}, false, "enable meshvm.service"},
		"systemctl fails":      {Wish{}, true, "enable meshvm.service meshvm-redirect.service meshvm-redirect-recover.service"},
	} {
		t.Run(name, func(t *testing.T) {
			m := image(t)
			var ran []string
			m.Run = func(_ context.Context, name string, arguments ...string) ([]byte, error) {
				ran = append(ran, name+" "+strings.Join(arguments, " "))
				if test.fail {
					return []byte("no such unit\n"), errors.New("exit status 1")
				}
				return nil, nil
			}
			test.wish.Wait = time.Minute
			_, err := m.Join(t.Context(), goodBundle(t), test.wish)
			if want := []string{"systemctl --root=" + m.Root + " " + test.want}; !slices.Equal(ran, want) {
				t.Errorf("ran %q, want %q", ran, want)
			}
			_, there := installed(t, m)["token"]
			if test.fail != (err != nil) || test.fail == there || test.fail && !strings.Contains(err.Error(), "no such unit") {
				t.Errorf("got %v, a token %t; want an error and no token %t", err, there, test.fail)
			}
		})
	}
}
