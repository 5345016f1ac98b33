// Package service runs CoreDNS as a service of a virtual machine, under systemd or without it.
//
// What it promises:
//
//   - Where the service manager keeps file descriptors (FileDescriptorStoreMax=), a restart loses no query. The sockets that DNS is
//     served from stay open with the manager while one process ends and the next one starts: what comes meanwhile waits in them.
//   - The manager is told that the service is ready only once it can answer: a registry was loaded, or names of the rest of the
//     world resolve.
//   - The manager's watchdog is fed only while queries to the service's own address are answered.
//   - A file of resolvers that forward names takes effect when it changes, without an edit of the Corefile.
//
// Flags, signals and exit codes are CoreDNS's own, but that reloading goes on after SIGUSR1.
package service
