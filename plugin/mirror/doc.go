// Package mirror is a VM's copy of the registry: it takes changes, answers look-ups and lives on disk.
//
// What holds:
//
//   - There is one current State, immutable, behind an atomic pointer. A query loads the pointer and
//     reads; it takes no lock, and an exact look-up allocates nothing.
//   - A change is applied as a whole or not at all. Whoever reads sees the State before it or the State
//     after it.
//   - A change costs what it touches. Every index is a persistent trie (package trie), so that a new
//     State shares with the old one all that did not change.
//   - Record sets are built once and never modified after: when a name is first asked for, because a VM
//     asks for few of the names that it holds, and each takes more memory than what it is made of. So is
//     the order of a headless Service's endpoints at their ports, which SRV records want.
//   - Bodies are kept as they travelled, and decoded only while a host is built. The digest of a State
//     is therefore the digest of what the syncer sent.
//   - A snapshot is read as a whole or not at all, and what cannot be read is set aside, never lost.
//
// Names are lower case without a trailing dot everywhere but inside resource records.
package mirror
