// Package join has a VM with meshvm's package join the mesh: it takes a bundle of meshvmctl bootstrap (bundle.go), finds
// what would keep CoreDNS from starting with it (corefile.go, check.go), puts it into /etc/meshvm so that it can be taken
// back (install.go), and starts the units of the package until the mesh answers (machine.go, join.go).
//
// Whatever fails leaves the VM resolving names as before.
package join
