// Package watch keeps a mirror in step with a syncer.
//
// A Client holds one stream to one syncer at a time and opens it anew for as long as it runs. How data
// flows: addresses are tried in turn (addresses.go, backoff.go), a connection is made to any IP address of
// one (resolve.go) with the credentials that are on disk at that moment (credentials.go, dial.go), which are looked
// at all the while (credentialfiles.go) and gone over to when they are renewed (renewal.go), what the
// syncer says is taken in order (session.go), what a mirror has in common with another replica is found out
// (compare.go), the frames of a delta are gathered (staging.go) and applied to the mirror as a whole, and
// how far that came is said back (acknowledge.go).
//
// What holds:
//
//   - Whatever a syncer does, the mirror keeps what it has until something whole and valid takes its
//     place.
//   - What a syncer says that makes no sense is counted, logged, and answered by a Compare with
//     what the mirror holds; where that was of no use, by a full copy.
//   - Nothing waits for ever: connecting, the first word, silence, and every retry have their bounds.
//   - Who is not let in backs off for long, says what to do about it (remedy.go), and comes again as soon as the
//     files of its credential change.
//   - A token never travels in plaintext, save between processes of one machine, and never reaches a log.
package watch
