package dependency

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Allowed are the licenses, by SPDX identifier, that a program under the Apache License 2.0 may be linked
// with and handed on: permissive ones, and the MPL, which asks for the source of its own files only.
var Allowed = []string{
	"0BSD",
	"Apache-2.0",
	"BSD-2-Clause",
	"BSD-3-Clause",
	"CC0-1.0",
	"ISC",
	"MIT",
	"MPL-2.0",
	"MPL-2.0-no-copyleft-exception",
	"Unlicense",
}

// enough is how much of a license file must be known words, in percent. The rest is names and years. What
// is less may hide a condition that somebody has added.
const enough = 75

// Judge returns an error that names the module and what is wrong, unless the licenses of module are known and all
// of them are allowed. Of several licenses in one module each one has to be allowed, as no file says which
// of them the user may choose.
func Judge(module Module, licenses []License) error {
	var faults []error
	known := false
	for _, license := range licenses {
		if license.Notice {
			continue
		}
		known = true
		if len(license.IDs) == 0 || license.Known < enough {
			faults = append(faults, fmt.Errorf("module %s: %s is no license that is known (%.0f%% of it is; found %s): read it, and say in build/dependency what holds",
				module, license.File, license.Known, cmp.Or(strings.Join(license.IDs, ", "), "none")))
		}
		for _, id := range license.IDs {
			if !slices.Contains(Allowed, id) {
				faults = append(faults, fmt.Errorf("module %s: %s has license %s, which is not allowed; want one of %s",
					module, license.File, id, strings.Join(Allowed, ", ")))
			}
		}
	}
	if !known {
		faults = append(faults, fmt.Errorf("module %s: has no license file", module))
	}
	return errors.Join(faults...)
}
