package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/syncer/source/manifest"
	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/syncer/vip/statefile"
)

// defaultStateFile is in the folder that the service manager makes for the syncer.
const defaultStateFile = "/var/lib/meshvm-syncer/vips.json"

// stateFlags are the flags of the ledger that --vip allocate keeps with --manifests.
type stateFlags struct{ file string }

func (f *stateFlags) declare(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "vip-state-file", defaultStateFile, "`FILE` of the ledger that --vip allocate keeps with --manifests; of one syncer only, and not among the manifests")
}

// check refuses flags that go with another source of names.
func (f *stateFlags) check(s settings, given func(name string) bool) (string, error) {
	inFolder := s.vip.allocate && s.manifests != ""
	switch {
	case given("vip-state-file") && !inFolder:
		return "", errors.New("--vip-state-file goes with --vip allocate and --manifests only")
	case !inFolder:
		return "", nil
	case f.file == "":
		return "", errors.New("--vip-state-file is empty: want a path")
	}
	for _, name := range []string{"vip-namespace", "vip-qps"} {
		if given(name) {
			return "", fmt.Errorf("--%s goes with a cluster only, not with --manifests", name)
		}
	}
	return f.file, nil
}

// openLedger is the ledger of virtual IPs in a file, nil where the flags ask for none.
func openLedger(s settings) (*statefile.File, error) {
	if s.vipState == "" {
		return nil, nil
	}
	inside, err := within(filepath.Dir(s.vipState), s.manifests)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--vip-state-file %s: its folder must be there: %w", s.vipState, err)
	case inside:
		return nil, fmt.Errorf("--vip-state-file %s: it is in the folder of manifests: want another folder", s.vipState)
	}
	ledger, err := statefile.Open(s.vipState)
	if err != nil {
		return nil, fmt.Errorf("--vip-state-file: %w", err)
	}
	return ledger, nil
}

// within reports whether a folder is another or in it, whatever they are called. In one that is not there is
// nothing.
func within(folder, other string) (bool, error) {
	folder, err := realPath(folder)
	if err != nil {
		return false, err
	}
	other, err = realPath(other)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	relative, err := filepath.Rel(other, folder)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(os.PathSeparator)), nil
}

func realPath(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(absolute)
}

// allocationOf is how the hosts of manifests are given virtual IPs, nil where they are not.
func allocationOf(options vip.Options, ledger *statefile.File) *manifest.Allocation {
	if ledger == nil {
		return nil
	}
	return &manifest.Allocation{Options: options, Records: ledger.Records(), Ledger: ledger}
}
