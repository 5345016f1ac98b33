package main

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// save writes an image as an archive of an OCI image layout, which skopeo, ctr and podman read. A file that was there stays until
// the new one is whole.
func save(index oci.ImageIndex, archive string) (err error) {
	folder, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	// The layout's own index has one entry, the image for all platforms, so that tools find one image and no choice.
	if _, err := layout.Write(folder, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})); err != nil {
		return err
	}
	draft, err := os.CreateTemp(filepath.Dir(archive), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	if err := errors.Join(pack(draft, folder), draft.Chmod(0o644), draft.Close()); err != nil {
		return err
	}
	return os.Rename(draft.Name(), archive)
}

// pack writes the files of a folder, in the order of their names, without anything of the machine's.
func pack(to io.Writer, folder string) error {
	writer, files := tar.NewWriter(to), os.DirFS(folder)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		header := &tar.Header{Name: name, ModTime: time.Unix(0, 0), Mode: 0o644, Typeflag: tar.TypeReg}
		if entry.IsDir() {
			header.Name, header.Mode, header.Typeflag = header.Name+"/", 0o755, tar.TypeDir
			return writer.WriteHeader(header)
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		header.Size = int64(len(content))
		if err := writer.WriteHeader(header); err != nil {
			return err
		}
		_, err = writer.Write(content)
		return err
	})
	return errors.Join(err, writer.Close())
}
