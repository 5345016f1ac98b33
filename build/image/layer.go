package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// file is one file of a layer.
type file struct {
	path    string
	content []byte
	mode    fs.FileMode
}

// layer packs files, which belong to root, and the folders that they are in. The same files and time give the same bytes.
func layer(files []file, at time.Time) (oci.Layer, error) {
	var packed bytes.Buffer
	writer := tar.NewWriter(&packed)
	made := map[string]bool{"/": true}
	for _, f := range files {
		if err := folders(writer, path.Dir(f.path), at, made); err != nil {
			return nil, err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.path[1:], Size: int64(len(f.content)), Mode: int64(f.mode), ModTime: at, Format: tar.FormatPAX}
		if err := writer.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		if _, err := writer.Write(f.content); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil })
}

// folders packs a folder and those above it, unless they are there.
func folders(writer *tar.Writer, folder string, at time.Time, made map[string]bool) error {
	if made[folder] {
		return nil
	}
	if err := folders(writer, path.Dir(folder), at, made); err != nil {
		return err
	}
	made[folder] = true
	return writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder[1:] + "/", Mode: 0o755, ModTime: at, Format: tar.FormatPAX})
}

// base is what every image has beside its program: whom to trust, who it runs as, what it is made of.
func (s settings) base(p program, architecture string) ([]file, error) {
	files := []file{
		{"/etc/group", fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", user), 0o644},
		{"/etc/passwd", fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%d:nonroot:/:/sbin/nologin\n", user, user), 0o644},
		{"/etc/ssl/certs/ca-certificates.crt", authorities(), 0o644},
	}
	licenses := os.DirFS(filepath.Join(s.parts, "licenses", p.name))
	err := fs.WalkDir(licenses, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(licenses, name)
		files = append(files, file{path.Join("/usr/share/doc/meshvm/licenses", name), content, 0o644})
		return err
	})
	if err != nil {
		return nil, err
	}
	bill, err := os.ReadFile(filepath.Join(s.parts, architecture, p.name+".cdx.json"))
	if err != nil {
		return nil, err
	}
	return append(files, file{"/usr/share/sbom/" + p.image + ".cdx.json", bill, 0o644}), nil
}

// authorities is Mozilla's list of certificate authorities, less those that are trusted with reservations, which PEM cannot express.
func authorities() []byte {
	var list bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			list.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return list.Bytes()
}
