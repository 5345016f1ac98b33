// Package redirect takes over name resolution on a virtual machine for the CoreDNS that runs on it, and gives it back.
//
// What it promises, whatever resolver the machine has:
//
//   - Nothing is changed before a probe of CoreDNS was answered. When CoreDNS can no longer answer, the machine's own resolution
//     is put back, and taken over again once it can.
//   - What was not ours stays: options, unknown lines, symbolic links. Whoever owned resolution is asked to write its state anew
//     on revert. The bytes of a backup come back only where nobody else could write them.
//   - What CoreDNS forwards to is never empty once it was known, and never leads back to CoreDNS.
//   - Every step is in the State before it is done, so that a revert after a kill or a power cut knows what there is to undo.
//
// It goes in this order: Detect collects Facts, Decide makes a Plan of them (and changes nothing), Apply does what the Plan says,
// Watch keeps it so, Revert undoes it.
package redirect
