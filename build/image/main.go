// Command image makes container images of the programs that build.sh has built, for all platforms, as archives of the OCI image layout.
// It needs no daemon and no registry, and the same parts give the same digests.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

// settings are what images are made of and what they say of themselves.
type settings struct {
	// parts has the programs, by architecture, and the licenses.
	parts string
	// version and revision are the release, and the commit it is of.
	version, revision string
	// created is when that commit was made.
	created time.Time
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	parts := flags.String("parts", "", "folder with the programs, by architecture, and the licenses")
	out := flags.String("out", "", "folder to write the archives to")
	version := flags.String("version", "", "version of the programs")
	revision := flags.String("revision", "", "commit that they are of")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *parts == "" || *out == "" || *version == "" || flags.NArg() > 0 {
		return errors.New("want -parts DIR, -out DIR and -version VERSION, and nothing else")
	}
	created, err := commitTime(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	s := settings{parts: *parts, version: *version, revision: *revision, created: created}
	for _, program := range programs {
		index, err := s.index(program)
		if err != nil {
			return fmt.Errorf("make an image of %s: %w", program.name, err)
		}
		archive := filepath.Join(*out, program.image+".tar")
		if err := save(index, archive); err != nil {
			return fmt.Errorf("write %s: %w", archive, err)
		}
		digest, err := index.Digest()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(stdout, "image: %s: %s\n", archive, digest); err != nil {
			return err
		}
	}
	return nil
}

// commitTime is the time in SOURCE_DATE_EPOCH, in seconds; without it, 1970.
func commitTime(epoch string) (time.Time, error) {
	if epoch == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
