// Package kubernetes gives hosts of ServiceEntries virtual IPs in a cluster whose control plane does not. Of
// the replicas that run it, the one that holds a Lease decides, by package vip, and writes what it decided to
// the status of ServiceEntries, from where everybody takes it: Istio, Envoy, and meshvm itself.
//
// What makes it safe at every moment, for a leader that dies as for one that does not know yet that it was
// deposed:
//
//   - Which host has which address, and which addresses rest, is kept in ConfigMaps, the ledger. An address
//     is in it before it is in any status.
//   - A part of the ledger is written only over the very state that was read. Of two leaders that give the
//     same address, one fails before anybody has heard of it, and reads the ledger anew.
//   - A status is written only over the very addresses that were seen, of the very object and spec.
package kubernetes
