// Package manifest feeds the registry from a folder of ordinary Kubernetes manifests and follows
// edits live. What holds:
//
//   - A file that does not parse, or holds an object that does not decode, is reported by file and
//     line, and all of its objects keep their last good state.
//   - An object that decodes but cannot be served is reported, and touches no other object.
//   - An object in several files is taken from the first by name; the others are reported.
//   - A folder that cannot be read takes nothing away: what it held stays until it returns.
//   - A file that is being written is left alone until its writer has paused, and an emptied one a
//     little longer: writers empty a file before they fill it.
//   - Everything found by one look at the folder becomes visible together, as one revision.
package manifest
