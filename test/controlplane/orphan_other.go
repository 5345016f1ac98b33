//go:build unix && !linux

package controlplane

import "syscall"

// childAttributes leaves a child in the process group of the test, so that a
// Ctrl-C ends both: there is no kernel to tell it that its parent died.
func childAttributes(syscall.Signal) *syscall.SysProcAttr { return nil }
