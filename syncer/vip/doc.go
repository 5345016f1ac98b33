// Package vip gives hosts of ServiceEntries virtual IPs where no control plane does. It decides; what it
// decides is stored and written by the packages below it, for a cluster and for a folder of manifests.
//
// What it holds to, whatever happens:
//
//   - An address belongs to one host at a time. Of two hosts that hold one, the elder keeps it.
//   - A host has one address of each family, however many ServiceEntries claim it.
//   - An address that was freed rests until its quarantine is over. Only its last host may have it before.
//   - An address changes for a cause only: a Service or the spec of a ServiceEntry has it as its own, or
//     two hosts hold it. What another allocator has written to a status is taken as it is.
//   - An address is in the ledger, a set of Records, before it is in any status. So an allocator that is
//     made anew from ledger and statuses gives what was given before, and knows of what was freed while
//     nobody looked.
//
// Nothing here knows Kubernetes, waits or writes.
package vip
