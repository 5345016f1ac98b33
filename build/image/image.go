package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const source = "https://github.com/meshvm/meshvm"

// labels are the annotations of the OCI image specification that an image has, as labels too.
func (s settings) labels(p program) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       p.title,
		"org.opencontainers.image.description": p.description,
		"org.opencontainers.image.source":      source,
		"org.opencontainers.image.url":         source,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     s.version,
		"org.opencontainers.image.revision":    s.revision,
		"org.opencontainers.image.created":     s.created.Format(time.RFC3339),
	}
}

// index is the image of a program for all platforms.
func (s settings) index(p program) (oci.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range architectures {
		image, err := s.image(p, architecture)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: oci.Descriptor{Platform: &oci.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	annotated, ok := mutate.Annotations(index, s.labels(p)).(oci.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("annotate %T: it is no index any more", index)
	}
	return annotated, nil
}

// image is the image of a program for one platform: what seldom changes in one layer, the program in another.
func (s settings) image(p program, architecture string) (oci.Image, error) {
	files, err := s.base(p, architecture)
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(filepath.Join(s.parts, architecture, p.name))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, part := range []struct {
		what  string
		files []file
	}{{"certificate authorities, licenses, bill of materials", files}, {p.name + " " + s.version, []file{{p.path, binary, 0o755}}}} {
		packed, err := layer(part.files, s.created)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", part.what, err)
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer: packed, MediaType: types.OCILayer, History: oci.History{Created: oci.Time{Time: s.created}, CreatedBy: "build/image", Comment: part.what},
		})
		if err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", architecture, oci.Time{Time: s.created}
	config.Config.User = owner
	config.Config.Entrypoint, config.Config.Cmd = []string{p.path}, p.arguments
	config.Config.WorkingDir = "/"
	config.Config.Env = []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}
	config.Config.Labels = s.labels(p)
	config.Config.ExposedPorts = map[string]struct{}{}
	for _, port := range p.ports {
		config.Config.ExposedPorts[port] = struct{}{}
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, s.labels(p)).(oci.Image)
	if !ok {
		return nil, fmt.Errorf("annotate %T: it is no image any more", image)
	}
	return annotated, nil
}
