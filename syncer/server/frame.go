package server

import (
	"slices"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// Field numbers of registry.proto. A test holds them against the generated code.
const (
	responseDelta protowire.Number = 2

	deltaFrom       protowire.Number = 1
	deltaTo         protowire.Number = 2
	deltaUpserts    protowire.Number = 3
	deltaRemovals   protowire.Number = 4
	deltaReplace    protowire.Number = 5
	deltaMore       protowire.Number = 6
	deltaObservedAt protowire.Number = 7
	deltaRemoved    protowire.Number = 9

	resourceKey  protowire.Number = 1
	resourceBody protowire.Number = 2
)

// delta is what takes a view to a revision, encoded in frames. It is immutable and shared by every
// stream that needs it.
type delta struct {
	to     uint64
	frames []frame
	// empty: nothing that the view sees has changed.
	empty bool
	bytes int
}

// frame is one Delta message but for from_revision, which streams of one view may differ in.
type frame []byte

// message is the frame for a mirror that is at the revision from.
func (f frame) message(from uint64) *message {
	const longest = 3 * (1 + 10) // two tags, two varints and a length
	var first []byte
	if from != 0 {
		first = appendVarint(make([]byte, 0, 11), deltaFrom, from)
	}
	head := make([]byte, 0, longest)
	head = protowire.AppendTag(head, responseDelta, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(first)+len(f)))
	head = append(head, first...)
	return &message{mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(f)}}
}

// encodeContent encodes a whole view as one Delta with replace.
func encodeContent(content registry.Content, limit int) *delta {
	e := encoder{to: content.Revision, replace: true, limit: limit}
	for _, entry := range content.Entries {
		e.upsert(entry)
	}
	return e.finish(time.Time{})
}

// encodeChanges encodes what a view went through.
func encodeChanges(changes registry.Changes, limit int) *delta {
	e := encoder{to: changes.To, limit: limit}
	// Removals come first: what they free is free when the upserts are applied.
	for _, key := range changes.Removals {
		e.removal(key)
	}
	for _, entry := range changes.Upserts {
		e.upsert(entry)
	}
	d := e.finish(changes.ObservedAt)
	d.empty = len(changes.Upserts)+len(changes.Removals) == 0
	return d
}

// encodeDifference encodes the outcome of a Compare: changes, and the places of resources that are no more in
// the VM's list, in ascending order.
func encodeDifference(changes registry.Changes, removed []uint32, limit int) *delta {
	e := encoder{to: changes.To, limit: limit}
	for places := range slices.Chunk(removed, placesAtOnce) {
		e.removedPlaces(places)
	}
	for _, key := range changes.Removals {
		e.removal(key)
	}
	for _, entry := range changes.Upserts {
		e.upsert(entry)
	}
	return e.finish(time.Time{})
}

// placesAtOnce is how many places stand in one packed field: 3 KiB at most below two million resources.
const placesAtOnce = 1024

// encoder fills frames one after the other. A frame is within the limit unless a single resource is
// larger. Bodies are copied as the registry holds them.
type encoder struct {
	to      uint64
	replace bool
	limit   int

	done  []frame
	bytes int
	open  []byte
}

func (e *encoder) upsert(entry *registry.Entry) {
	size := protowire.SizeTag(resourceKey) + protowire.SizeBytes(len(entry.Key)) +
		protowire.SizeTag(resourceBody) + protowire.SizeBytes(len(entry.Body))
	e.room(protowire.SizeTag(deltaUpserts) + protowire.SizeBytes(size))
	e.open = protowire.AppendTag(e.open, deltaUpserts, protowire.BytesType)
	e.open = protowire.AppendVarint(e.open, uint64(size))
	e.open = protowire.AppendTag(e.open, resourceKey, protowire.BytesType)
	e.open = protowire.AppendString(e.open, entry.Key)
	e.open = protowire.AppendTag(e.open, resourceBody, protowire.BytesType)
	e.open = protowire.AppendBytes(e.open, entry.Body)
}

func (e *encoder) removal(key string) {
	e.room(protowire.SizeTag(deltaRemovals) + protowire.SizeBytes(len(key)))
	e.open = protowire.AppendTag(e.open, deltaRemovals, protowire.BytesType)
	e.open = protowire.AppendString(e.open, key)
}

func (e *encoder) removedPlaces(places []uint32) {
	size := 0
	for _, place := range places {
		size += protowire.SizeVarint(uint64(place))
	}
	e.room(protowire.SizeTag(deltaRemoved) + protowire.SizeBytes(size))
	e.open = protowire.AppendTag(e.open, deltaRemoved, protowire.BytesType)
	e.open = protowire.AppendVarint(e.open, uint64(size))
	for _, place := range places {
		e.open = protowire.AppendVarint(e.open, uint64(place))
	}
}

// room closes the open frame if size more bytes would be too many for it.
func (e *encoder) room(size int) {
	if len(e.open) > 0 && len(e.open)+size > e.limit {
		e.open = appendVarint(e.open, deltaMore, 1)
		e.close()
	}
}

func (e *encoder) close() {
	e.open = appendVarint(e.open, deltaTo, e.to)
	if e.replace {
		e.open = appendVarint(e.open, deltaReplace, 1)
	}
	e.bytes += len(e.open)
	e.done = append(e.done, e.open)
	e.open = make([]byte, 0, len(e.open))
}

func (e *encoder) finish(observed time.Time) *delta {
	if !observed.IsZero() {
		// A Timestamp always encodes.
		body, _ := proto.Marshal(timestamppb.New(observed))
		e.open = protowire.AppendTag(e.open, deltaObservedAt, protowire.BytesType)
		e.open = protowire.AppendBytes(e.open, body)
	}
	e.close()
	return &delta{to: e.to, frames: e.done, bytes: e.bytes}
}

func appendVarint(b []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
}

// heartbeat is the message that proves a view.
func heartbeat(proof registry.Proof, currentAt time.Time) *registryv1.WatchResponse {
	return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_Heartbeat{Heartbeat: &registryv1.Heartbeat{
		Revision:  proof.Revision,
		Digest:    uint64(proof.Digest),
		Resources: uint64(proof.Resources),
		CurrentAt: timestamppb.New(currentAt),
	}}}
}
