// Package verdict keeps what the API server has said of credentials and identities, so that it is asked seldom.
//
// A good verdict counts for a while, a bad one for a short while. Those who ask for the same at once get one answer. When nobody can
// tell, the last good verdict goes on for a bounded time: who has taken the API server away must not take the mesh away too.
//
// Good and bad verdicts are kept apart, so that a stranger who shows thousands of tokens pushes out none of a VM.
package verdict
