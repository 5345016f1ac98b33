// Package page is the syncer's status page: HTML of its own, JSON below /status/api/ and server-sent events. It only reads,
// and knows the syncer by what it is told of it.
//
// Fields of the JSON are only ever added.
package page
