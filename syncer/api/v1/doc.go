// Package registryv1 is all that a syncer and a VM know of each other: the messages between them,
// the digest that both compute over resources, and the rule that both follow when several objects
// claim one host.
//
// It links neither CoreDNS nor client-go, and must not.
package registryv1

//go:generate sh ../generate.sh
