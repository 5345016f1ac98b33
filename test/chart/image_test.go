//go:build chart

package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// TestImagesRun unpacks the images that make image has built, and runs their programs as containers do: on that file system alone, which
// belongs to root, as the user of the image.
func TestImagesRun(t *testing.T) {
	manifests, corefile := t.TempDir(), t.TempDir()
	syncer, http, server := programs.FreeAddress(t), programs.FreeAddress(t), programs.FreePort(t)
	for file, content := range map[string]string{
		filepath.Join(manifests, "objects.yaml"): objects,
		filepath.Join(corefile, "Corefile"):      ".:" + server + " {\n bind 127.0.0.1\n meshvm {\n syncer " + syncer + "\n insecure\n namespace prod\n snapshot off\n status off\n }\n}\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil { //nolint:gosec // The image's user reads it.
			t.Fatal(err)
		}
	}
	contain(t, "meshvm-syncer", map[string]string{manifests: "/manifests"},
		"/usr/bin/meshvm-syncer", "--manifests", "/manifests", "--insecure", "--listen", syncer, "--http-listen", http)
	contain(t, "coredns-meshvm", map[string]string{corefile: "/etc/meshvm"}, "/usr/bin/coredns-meshvm", "-conf", "/etc/meshvm/Corefile")
	m := &vm{t: t, address: "127.0.0.1:" + server}
	m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
}

// contain runs a program on the file system of an image, with folders of this machine's copied into it.
func contain(t *testing.T, image string, folders map[string]string, program ...string) {
	t.Helper()
	files := t.TempDir()
	if err := os.Chmod(files, 0o755); err != nil {
		t.Fatal(err)
	}
	unpack(t, image, files)
	for from, to := range folders {
		if err := os.CopyFS(filepath.Join(files, to), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), program[0], program[1:]...)
	command.Path, command.Dir, command.Env = program[0], "/", []string{"PATH=/usr/bin"}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: files, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // It may have ended, which the test has noticed.
		_ = command.Wait()
	})
}

// unpack lays the layers of an image, for this machine, over each other.
func unpack(t *testing.T, name, into string) {
	t.Helper()
	archive := t.TempDir()
	tar := func(args ...string) {
		t.Helper()
		if output, err := exec.CommandContext(t.Context(), "tar", args...).CombinedOutput(); err != nil {
			t.Fatalf("tar %v: %v: %s", args, err, output)
		}
	}
	tar("-xf", filepath.Join(root, "bin", "images", name+".tar"), "-C", archive)
	all, err := layout.ImageIndexFromPath(archive)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	index, err := all.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range manifest.Manifests {
		if one.Platform.Architecture != runtime.GOARCH {
			continue
		}
		image, err := index.Image(one.Digest)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range layers {
			digest, err := layer.Digest()
			if err != nil {
				t.Fatal(err)
			}
			tar("-xzf", filepath.Join(archive, "blobs", "sha256", digest.Hex), "-C", into)
		}
		return
	}
	t.Fatalf("%s has no image for %s", name, runtime.GOARCH)
}
