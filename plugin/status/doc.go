// Package status tells whoever operates a VM how its mirrors stand.
//
// The process serves a Report at a unix socket (socket.go, server.go), and meshvmctl status asks for it (ask.go).
// A Report holds nothing of a token, a key or a certificate but where it is and when it ends. The socket is for the
// process's user and group.
package status
