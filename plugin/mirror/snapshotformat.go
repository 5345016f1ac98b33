package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cespare/xxhash/v2"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// A snapshot, all integers little-endian, a string or bytes as a uvarint length and the content:
//
//	magic      8 bytes
//	version    uint32
//	length     uint64   of the whole file
//	generation string
//	view       string
//	domain     string   the cluster domain
//	revision   uint64
//	serial     uint32
//	confirmed  uint64   nanoseconds since 1970, two's complement; 0: never
//	digest     uint64   of the resources
//	count      uint64   of the resources
//	resources  count times: key string, body bytes
//	checksum   uint64   xxHash64 of all bytes before
const (
	// snapshotMagic ends as PNG's does, so that a transfer as text shows.
	snapshotMagic   = "meshvm\r\n"
	snapshotVersion = 1

	preambleSize = len(snapshotMagic) + 4 + 8
	checksumSize = 8
)

// savedState is the content of a snapshot.
type savedState struct {
	generation, view, clusterDomain string

	revision  uint64
	serial    uint32
	confirmed int64
	digest    registryv1.Digest
	count     uint64

	// encoded is the resources as they stand in the file.
	encoded []byte
}

func encodeSnapshot(w io.Writer, s *State, confirmed int64) error {
	header := appendHeader(nil, s, confirmed)
	length := preambleSize + len(header) + checksumSize
	for key, held := range s.resources.All() {
		length += fieldSize(len(key)) + fieldSize(len(held.body(key)))
	}
	preamble := binary.LittleEndian.AppendUint32([]byte(snapshotMagic), snapshotVersion)
	preamble = binary.LittleEndian.AppendUint64(preamble, uint64(length))

	checksum := xxhash.New()
	out := io.MultiWriter(w, checksum)
	if _, err := out.Write(append(preamble, header...)); err != nil {
		return err
	}
	var field []byte
	for key, held := range s.resources.All() {
		field = appendField(field[:0], key)
		field = appendField(field, held.body(key))
		if _, err := out.Write(field); err != nil {
			return err
		}
	}
	_, err := w.Write(binary.LittleEndian.AppendUint64(nil, checksum.Sum64()))
	return err
}

func appendHeader(b []byte, s *State, confirmed int64) []byte {
	for _, text := range []string{s.generation, s.view, s.clusterDomain} {
		b = appendField(b, text)
	}
	b = binary.LittleEndian.AppendUint64(b, s.revision)
	b = binary.LittleEndian.AppendUint32(b, s.serial)
	b = binary.LittleEndian.AppendUint64(b, uint64(confirmed))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.digest))
	return binary.LittleEndian.AppendUint64(b, uint64(s.Resources()))
}

func appendField[T string | []byte](b []byte, content T) []byte {
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

// fieldSize is how long appendField makes content of a length.
func fieldSize(length int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(length)) + length
}

// decodeSnapshot reads the header of a snapshot, having verified all of it. Every error is a
// *SnapshotError.
func decodeSnapshot(data []byte) (*savedState, error) {
	if err := checkPreamble(data); err != nil {
		return nil, err
	}
	content, checksum := data[:len(data)-checksumSize], data[len(data)-checksumSize:]
	if binary.LittleEndian.Uint64(checksum) != xxhash.Sum64(content) {
		return nil, &SnapshotError{Fault: FaultChecksum}
	}
	fields := fieldReader{rest: content[preambleSize:]}
	saved := &savedState{
		generation:    string(fields.bytes()),
		view:          string(fields.bytes()),
		clusterDomain: string(fields.bytes()),
		revision:      fields.uint64(),
		serial:        fields.uint32(),
		confirmed:     int64(fields.uint64()),
		digest:        registryv1.Digest(fields.uint64()),
		count:         fields.uint64(),
	}
	if fields.err != nil {
		return nil, &SnapshotError{Fault: FaultContent, Detail: "header", Err: fields.err}
	}
	if saved.generation == "" {
		return nil, &SnapshotError{Fault: FaultContent, Detail: "header", Err: errors.New("no generation")}
	}
	if err := registryv1.CheckName(saved.clusterDomain); err != nil {
		return nil, &SnapshotError{Fault: FaultContent, Detail: "cluster domain " + quote(saved.clusterDomain), Err: err}
	}
	saved.encoded = fields.rest
	return saved, nil
}

// checkPreamble reports a file that is no snapshot, not of this version, or not all there.
func checkPreamble(data []byte) error {
	magic := data[:min(len(data), len(snapshotMagic))]
	switch {
	case !strings.HasPrefix(snapshotMagic, string(magic)):
		return &SnapshotError{Fault: FaultForeign}
	case len(data) < preambleSize:
		return &SnapshotError{Fault: FaultTruncated, Detail: fmt.Sprintf("at byte %d, within the first %d", len(data), preambleSize)}
	}
	version := binary.LittleEndian.Uint32(data[len(snapshotMagic):])
	length := binary.LittleEndian.Uint64(data[len(snapshotMagic)+4:])
	switch {
	case version != snapshotVersion:
		return &SnapshotError{Fault: FaultVersion, Detail: fmt.Sprintf("%d, and this is %d", version, snapshotVersion)}
	case uint64(len(data)) < length:
		return &SnapshotError{Fault: FaultTruncated, Detail: fmt.Sprintf("at byte %d of %d", len(data), length)}
	case uint64(len(data)) > length || length < uint64(preambleSize+checksumSize):
		return &SnapshotError{Fault: FaultContent, Detail: fmt.Sprintf("%d bytes long, and says that it is %d", len(data), length)}
	}
	return nil
}

// content finds the resources. They are copied out of the file's content and do not hold on to it.
func (s *savedState) content() (content, error) {
	// The least that a resource takes in the file is the lengths of its key and its body.
	starts := make([]int, 0, min(s.count, uint64(len(s.encoded)/2)))
	fields := fieldReader{rest: s.encoded}
	for i := range s.count {
		starts = append(starts, len(s.encoded)-len(fields.rest))
		fields.bytes()
		fields.bytes()
		if fields.err != nil {
			return content{}, fmt.Errorf("resource %d of %d: %w", i+1, s.count, fields.err)
		}
	}
	if len(fields.rest) > 0 {
		return content{}, fmt.Errorf("%d bytes follow the last of %d resources", len(fields.rest), s.count)
	}
	return content{len(starts), func(i int, to []byte) ([]byte, int) {
		fields := fieldReader{rest: s.encoded[starts[i]:]}
		key, body := fields.bytes(), fields.bytes()
		return append(append(to, key...), body...), len(key)
	}}, nil
}

// fieldReader reads fields off the front. After an error it reads zero values.
type fieldReader struct {
	rest []byte
	err  error
}

var errFieldLength = errors.New("a field reaches beyond the end")

// take is the next n bytes, nil when there are fewer.
func (r *fieldReader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.rest)) {
		r.err = errFieldLength
	}
	if r.err != nil {
		return nil
	}
	field := r.rest[:n]
	r.rest = r.rest[n:]
	return field
}

func (r *fieldReader) bytes() []byte {
	length, n := binary.Uvarint(r.rest)
	if r.err == nil && n <= 0 {
		r.err = errFieldLength
	}
	if r.err != nil {
		return nil
	}
	r.rest = r.rest[n:]
	return r.take(length)
}

func (r *fieldReader) uint64() uint64 {
	if field := r.take(8); field != nil {
		return binary.LittleEndian.Uint64(field)
	}
	return 0
}

func (r *fieldReader) uint32() uint32 {
	if field := r.take(4); field != nil {
		return binary.LittleEndian.Uint32(field)
	}
	return 0
}
