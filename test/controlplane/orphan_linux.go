package controlplane

import "syscall"

// childAttributes puts a child into a process group of its own and has the
// kernel signal it when its parent dies, however that happens.
func childAttributes(ifOrphan syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: ifOrphan}
}
