package dependency

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// License is a file of a module that says under which terms it may be used.
type License struct {
	// File is its path within the module, with slashes.
	File string
	Text []byte
	// IDs are the SPDX identifiers of the licenses that it contains, sorted. A notice contains none
	// and grants nothing, but has to be handed on with the rest.
	IDs []string
	// Known is how much of the words are those of these licenses, in percent.
	Known float64
	// Notice is true for a file that accompanies a license.
	Notice bool
}

var (
	licenseName = regexp.MustCompile(`(?i)^(un)?(licen[sc]e|copying)([-._].*)?$`)
	// documentsName is of a license for a module's documentation, as Docker's and the OCI's modules have it. No program has any of that.
	documentsName = regexp.MustCompile(`(?i)^licen[sc]e\.docs$`)
	noticeName    = regexp.MustCompile(`(?i)^(notice|patents|copyright|authors)([-._](md|txt))?$`)
)

// Licenses returns the licenses and notices that hold for what is used of a module: those in the folders
// of its packages and in all folders above, up to the module's own. They are sorted by file.
func (m Module) Licenses() ([]License, error) {
	visited := map[string]bool{}
	var licenses []License
	for _, folder := range m.Folders {
		for ; !visited[folder]; folder = filepath.Dir(folder) {
			visited[folder] = true
			within, err := filepath.Rel(m.Dir, folder)
			if err != nil || within == ".." || strings.HasPrefix(within, "../") {
				return nil, fmt.Errorf("module %s: package folder %s is not within %s", m, folder, m.Dir)
			}
			found, err := m.read(within)
			if err != nil {
				return nil, fmt.Errorf("module %s: reading its licenses: %w", m, err)
			}
			licenses = append(licenses, found...)
			if within == "." {
				break
			}
		}
	}
	slices.SortFunc(licenses, func(a, b License) int { return strings.Compare(a.File, b.File) })
	return licenses, nil
}

// read returns the licenses and notices of one folder.
func (m Module) read(within string) ([]License, error) {
	entries, err := os.ReadDir(filepath.Join(m.Dir, within))
	if err != nil {
		return nil, err
	}
	var licenses []License
	for _, entry := range entries {
		name := entry.Name()
		notice := noticeName.MatchString(name)
		if entry.IsDir() || documentsName.MatchString(name) || !notice && (!licenseName.MatchString(name) || filepath.Ext(name) == ".go") {
			continue
		}
		file := filepath.Join(within, name)
		text, err := os.ReadFile(filepath.Join(m.Dir, file))
		if err != nil {
			return nil, err
		}
		license := License{File: filepath.ToSlash(file), Text: text, Notice: notice}
		if !notice {
			license.IDs, license.Known = recognize(text)
		}
		licenses = append(licenses, license)
	}
	return licenses, nil
}

func recognize(text []byte) (ids []string, known float64) {
	coverage := licensecheck.Scan(text)
	for _, match := range coverage.Match {
		ids = append(ids, match.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids), coverage.Percent
}

// IDs returns the SPDX identifiers of all licenses, sorted.
func IDs(licenses []License) []string {
	var ids []string
	for _, license := range licenses {
		ids = append(ids, license.IDs...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
