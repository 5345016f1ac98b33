package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// parts builds what build.sh does, less what a test need not wait for: small programs for both architectures, and one license.
func parts(t *testing.T) settings {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	write(t, source, "package main\n\nfunc main() { println(\"it runs\") }\n")
	for _, p := range programs {
		write(t, filepath.Join(dir, "licenses", p.name, "example.com", "module", "LICENSE"), "text")
		for _, architecture := range architectures {
			file := filepath.Join(dir, architecture, p.name)
			build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", file, source)
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
			if output, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			write(t, file+".cdx.json", "{}")
		}
	}
	return settings{parts: dir, version: "v1.2.3", revision: "abc", created: time.Unix(1_700_000_000, 0).UTC()}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// load reads an archive back, as a registry's client does, and returns the image of each platform.
func load(t *testing.T, archive string) map[string]oci.Image {
	t.Helper()
	dir := t.TempDir()
	if output, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	all, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := all.IndexManifest()
	if err != nil || len(outer.Manifests) != 1 {
		t.Fatalf("got %+v and %v, want an archive of one image", outer, err)
	}
	index, err := all.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]oci.Image{}
	for _, one := range manifest.Manifests {
		image, err := index.Image(one.Digest)
		if err != nil {
			t.Fatal(err)
		}
		images[one.Platform.String()] = image
	}
	return images
}

// files is what a layer holds, by path.
func files(t *testing.T, layer oci.Layer) map[string][]byte {
	t.Helper()
	packed, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	content := map[string][]byte{}
	reader := tar.NewReader(packed)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return content
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || header.Mode&0o022 != 0 {
			t.Errorf("%s is of %d:%d, mode %o: want root's, and writable by nobody else", header.Name, header.Uid, header.Gid, header.Mode)
		}
		if content["/"+header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImages(t *testing.T) {
	s := parts(t)
	for _, p := range programs {
		t.Run(p.image, func(t *testing.T) {
			index, err := s.index(p)
			if err != nil {
				t.Fatal(err)
			}
			archive := filepath.Join(t.TempDir(), p.image+".tar")
			if err := save(index, archive); err != nil {
				t.Fatal(err)
			}
			images := load(t, archive)
			for architecture, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
				image := images["linux/"+architecture]
				if image == nil {
					t.Fatalf("got %v, want an image for %s", images, architecture)
				}
				checkImage(t, image, p, architecture, machine)
			}
			if len(images) != len(architectures) {
				t.Errorf("got %d platforms, want %d", len(images), len(architectures))
			}
		})
	}
}

func checkImage(t *testing.T, image oci.Image, p program, architecture string, machine elf.Machine) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != architecture || config.OS != "linux" || config.Config.User != "65532:65532" {
		t.Errorf("got %s/%s as %q, want linux/%s as 65532:65532", config.OS, config.Architecture, config.Config.User, architecture)
	}
	if !slices.Equal(config.Config.Entrypoint, []string{p.path}) || len(config.Config.ExposedPorts) != len(p.ports) {
		t.Errorf("got entry point %q and ports %v, want %s and %v", config.Config.Entrypoint, config.Config.ExposedPorts, p.path, p.ports)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		"org.opencontainers.image.version": "v1.2.3", "org.opencontainers.image.revision": "abc", "org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.created": "2023-11-14T22:13:20Z", "org.opencontainers.image.title": p.title,
	} {
		if config.Config.Labels[label] != want || manifest.Annotations[label] != want {
			t.Errorf("%s: got label %q and annotation %q, want %q", label, config.Config.Labels[label], manifest.Annotations[label], want)
		}
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("got %d layers and %v, want 2", len(layers), err)
	}
	base, own := files(t, layers[0]), files(t, layers[1])
	roots := x509.NewCertPool()
	certificates := 0
	for rest := base["/etc/ssl/certs/ca-certificates.crt"]; ; certificates++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(certificate)
	}
	if certificates < 100 {
		t.Errorf("got %d certificate authorities, want the web's", certificates)
	}
	for _, path := range []string{"/etc/passwd", "/etc/group", "/usr/share/sbom/" + p.image + ".cdx.json", "/usr/share/doc/meshvm/licenses/example.com/module/LICENSE"} {
		if len(base[path]) == 0 {
			t.Errorf("The image has no %s", path)
		}
	}
	binary, err := elf.NewFile(bytes.NewReader(own[p.path]))
	if err != nil {
		t.Fatalf("%s: %v", p.path, err)
	}
	defer binary.Close()
	if binary.Machine != machine {
		t.Errorf("got a program for %v, want %v", binary.Machine, machine)
	}
	for path := range own {
		if path != p.path && !strings.HasSuffix(path, "/") {
			t.Errorf("The program's layer has %s, too", path)
		}
	}
}

// TestReproducible: where it is built, and when, is in no byte.
func TestReproducible(t *testing.T) {
	var archives [2][]byte
	for i := range archives {
		s := parts(t)
		index, err := s.index(programs[0])
		if err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(t.TempDir(), "image.tar")
		if err := save(index, archive); err != nil {
			t.Fatal(err)
		}
		if archives[i], err = os.ReadFile(archive); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("Two builds of the same parts differ")
	}
}

func TestRun(t *testing.T) {
	s := parts(t)
	out := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	var said bytes.Buffer
	if err := run([]string{"-parts", s.parts, "-out", out, "-version", "v1", "-revision", "abc"}, &said, &said); err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(out, p.image+".tar")); err != nil || !strings.Contains(said.String(), p.image+".tar: sha256:") {
			t.Errorf("got %q and %v, want %s.tar and its digest", &said, err, p.image)
		}
	}
	for name, tc := range map[string]struct {
		args  []string
		epoch string
		want  string
	}{
		"no version":     {[]string{"-parts", s.parts, "-out", out}, "0", "-version"},
		"an argument":    {[]string{"-parts", s.parts, "-out", out, "-version", "v1", "x"}, "0", "nothing else"},
		"a time of none": {[]string{"-parts", s.parts, "-out", out, "-version", "v1"}, "today", "SOURCE_DATE_EPOCH"},
		"no programs":    {[]string{"-parts", out, "-out", out, "-version", "v1"}, "0", "meshvm-syncer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SOURCE_DATE_EPOCH", tc.epoch)
			if err := run(tc.args, &said, &said); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
