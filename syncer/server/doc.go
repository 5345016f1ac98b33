// Package server is the syncer's front: the gRPC service that VMs watch, and HTTP for people and
// monitoring.
//
// How a change reaches the VMs:
//
//	registry -> publisher -> view -> stream, one for each VM
//
// The publisher waits a short window after a change, so that a burst is one step, and then moves the
// head of every view that is watched. A stream holds a cursor into the registry's log and nothing
// else. When its view's head moves, it asks for what lies between; all streams that had caught up ask
// for the same, so it is encoded once and the same bytes go to all of them. A stream that is slow asks
// for a longer range later. No stream has a queue, and none waits for another.
//
// A VM that comes with something that the log cannot take from there is compared: by one digest, which
// costs next to nothing, then by digests of buckets, then by digests of resources. Only what differs is
// sent. All but the first is admitted like a whole view, as it may hold as much. So is one that has fallen off
// the log while it was connected: it is told to come again.
//
// A connection is on trial until its VM has proved who it is. Of those that never do, few are worked on at once, and
// where many of them come from further ones are closed as soon as they are accepted.
//
// What is bounded: the connections in all, from one address and of one identity; how many VMs are brought up to
// date at once, how many wait for that and for how long, and others are told when to come again; the frames, and
// the time that a VM takes to read one; what is kept encoded; and the age of a connection, so that replicas stay
// balanced.
package server
