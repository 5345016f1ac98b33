package mirror

import (
	"errors"
	"fmt"
	"os"
)

// Fault is what is wrong with a snapshot, in a word or two, for logs and metrics.
type Fault string

// Faults of a snapshot.
const (
	// FaultTruncated: the file ends too early.
	FaultTruncated Fault = "truncated"
	// FaultForeign: the file is something else.
	FaultForeign Fault = "not a meshvm snapshot"
	// FaultVersion: the file is of a format that this version does not know.
	FaultVersion Fault = "unsupported version"
	// FaultChecksum: what was read is not what was written.
	FaultChecksum Fault = "checksum mismatch"
	// FaultContent: the file is intact, but what it holds makes no registry.
	FaultContent Fault = "does not decode"
)

// SnapshotError says why a snapshot cannot be used.
type SnapshotError struct {
	// Path is the file, and Aside where it has been moved to, empty if it has not.
	Path, Aside string
	Fault       Fault
	// Detail is where and what, for people.
	Detail string
	// Err is what else went wrong: in the content, or in setting the file aside. It may be nil.
	Err error
}

// Error is in the form `snapshot PATH: truncated: ...; set aside as PATH.corrupt`.
func (e *SnapshotError) Error() string {
	text := fmt.Sprintf("snapshot %s: %s", e.Path, e.Fault)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Aside != "" {
		text += "; set aside as " + e.Aside
	}
	return text
}

// Unwrap is Err.
func (e *SnapshotError) Unwrap() error { return e.Err }

// setAside moves the file out of the way of the next Save. An older one that was set aside goes.
func (e *SnapshotError) setAside(path string) {
	aside := path + CorruptSuffix
	if err := os.Rename(path, aside); err != nil {
		e.Err = errors.Join(e.Err, fmt.Errorf("set aside: %w", err))
		return
	}
	e.Aside = aside
}
