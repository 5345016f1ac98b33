package supportbundle

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Bounds of what is gathered: of one item in bytes, and how long it may take.
const (
	maxItem  = 8 << 20
	patience = 20 * time.Second
)

// Item is one file of the archive.
type Item struct {
	// Name is the file's, About what it is, in a few words.
	Name, About string
	// Collect gathers it.
	Collect func(ctx context.Context) ([]byte, error)
}

// Create makes an archive that only its owner may read, as a new file, and returns its list of contents. On an error there is no file.
func Create(ctx context.Context, path string, items []Item, redactor *Redactor) (contents string, err error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("make the archive: %w", err)
	}
	contents, err = Write(ctx, file, items, redactor)
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
	}
	return contents, nil
}

// Write writes an archive, a gzipped tar: the list of contents, then each item without secrets. What cannot be gathered is left out,
// and the list says why.
func Write(ctx context.Context, w io.Writer, items []Item, redactor *Redactor) (contents string, err error) {
	now := time.Now().UTC()
	gathered := make([][]byte, len(items))
	var list strings.Builder
	fmt.Fprintf(&list, "meshvm support bundle of %s\nTokens, keys and the snapshot are not in it; what looks like a secret is %s.\n\n", now.Format(time.RFC3339), redacted)
	for i, item := range items {
		content, err := gather(ctx, item)
		gathered[i] = redactor.Redact(content)
		state := fmt.Sprintf("%d bytes", len(gathered[i]))
		if err != nil {
			state = strings.TrimSpace(state + ", " + string(redactor.Redact([]byte(strings.ReplaceAll(err.Error(), "\n", " ")))))
		}
		fmt.Fprintf(&list, "%-28s %s (%s)\n", item.Name, redactor.Redact([]byte(item.About)), state)
	}
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	add := func(name string, content []byte) error {
		header := &tar.Header{Name: "meshvm-support/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: now, Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := archive.Write(content)
		return err
	}
	if err := add("CONTENTS", []byte(list.String())); err != nil {
		return "", err
	}
	for i, item := range items {
		if len(gathered[i]) == 0 {
			continue
		}
		if err := add(item.Name, gathered[i]); err != nil {
			return "", err
		}
	}
	return list.String(), errors.Join(archive.Close(), zipped.Close())
}

// gather collects an item within bounds.
func gather(ctx context.Context, item Item) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	content, err := item.Collect(ctx)
	if len(content) > maxItem {
		// Of what goes on for long the end tells more. The first line of it may be part of a secret.
		content = content[len(content)-maxItem:]
		if _, rest, found := strings.Cut(string(content), "\n"); found {
			content = []byte(rest)
		} else {
			content = nil
		}
		err = cmp.Or(err, fmt.Errorf("only its end: it is larger than %d bytes", maxItem))
	}
	return content, err
}
