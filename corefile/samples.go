// Package corefile holds sample Corefiles. Its tests start every one of them.
package corefile

import _ "embed" // for the sample

//go:embed vm
var vm string

// VM is the sample for a server that becomes a VM's resolver. What it says of one VM, such as its syncer and its
// namespace, stands on lines of their own, each once.
func VM() string { return vm }
