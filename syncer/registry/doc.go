// Package registry is the one merged, revisioned registry of the mesh.
//
// Sources put objects in; watchers take changes out. What holds:
//
//   - Every Apply that changes anything is one revision. Revisions count up from 1 without gaps
//     within a generation, and a generation is one Registry.
//   - A watcher keeps one integer, the revision it has come to. The change log is shared, so ten
//     thousand watchers cost ten thousand integers. Nothing is queued for anyone.
//   - The log is bounded by bytes. A watcher that falls off it gets ErrCompacted and must compare
//     or start over; it never holds memory nor delays anyone.
//   - A view is what one namespace may see. Changes, content and digests of a view never depend on
//     a resource that the view does not see, not even on its key.
//   - Digests are sums kept up to date with every change, so proving a view costs O(1).
//   - Ready is false until every source has synced for the first time. An empty or half-loaded
//     registry is never shown.
//   - Removals of more than a share of what a source has can be held back for a time: see
//     GuardOptions. What is held back is in the registry like everything else.
//
// All methods are safe for concurrent use. No method blocks on a watcher.
package registry
