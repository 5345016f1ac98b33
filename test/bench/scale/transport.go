package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// counters are the bytes of one VM, both ways. TCP's include TLS, HTTP/2 and gRPC; messages' are what
// gRPC carries.
type counters struct {
	tcpIn, tcpOut         atomic.Int64
	messageIn, messageOut atomic.Int64
	deltaIn               atomic.Int64
	deltas                atomic.Int64
}

// countedConn counts what goes through a connection.
type countedConn struct {
	net.Conn
	to *counters
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.to.tcpIn.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.to.tcpOut.Add(int64(n))
	return n, err
}

const (
	streamID      = 1
	defaultWindow = 65535 // RFC 9113, section 6.9.2; gRPC's own clients begin with it too
	maxFrame      = 16384 // RFC 9113, section 4.2
	frameHeader   = 9
	messageHeader = 5
	keptBuffer    = 4 << 10
)

// transport is one gRPC stream over one HTTP/2 connection, with next to no state: ten thousand of them
// must leave the machine to the syncer. One goroutine reads; any may send.
type transport struct {
	conn *tls.Conn
	raw  net.Conn
	to   *counters

	// The reader's own.
	head     [frameHeader]byte
	frame    []byte // payload of a frame that is not DATA
	left     int    // of the DATA frame that is being read
	ended    bool   // that frame ends the stream
	prefix   [messageHeader]byte
	have     int // of prefix and message
	message  []byte
	pooled   *[]byte
	consumed uint32
	headers  *hpack.Decoder
	block    []byte
	fields   map[string]string

	mu         sync.Mutex
	queue      []byte // gRPC messages that no window is open for
	window     int64  // of the stream
	connWindow int64
	initial    int64
	out        bytes.Buffer
	frames     *http2.Framer // into out
}

var largeMessages = sync.Pool{New: func() any { return new([]byte) }}

// errStream is how a syncer ended a stream.
type errStream struct {
	code    int
	message string
	after   time.Duration // how long to stay away
}

func (e *errStream) Error() string { return fmt.Sprintf("gRPC status %d: %s", e.code, e.message) }

// requestHeaders open the stream. They are the same for all, so they are encoded once: on a connection
// of its own each begins with an empty HPACK table.
var requestHeaders = func() []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"},
		{":scheme", "https"},
		{":path", "/meshvm.registry.v1.Registry/Watch"},
		{":authority", serverName},
		{"content-type", "application/grpc"},
		{"user-agent", "meshvm-bench"},
		{"te", "trailers"},
	} {
		// A write to a bytes.Buffer cannot fail.
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return block.Bytes()
}()

// dial connects from a local address and opens the stream.
func dial(ctx context.Context, local net.IP, address string, config *tls.Config, to *counters) (*transport, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: local}, KeepAlive: -1}
	socket, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	raw := &countedConn{Conn: socket, to: to}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	t := &transport{
		conn: conn, raw: raw, to: to,
		window: defaultWindow, connWindow: defaultWindow, initial: defaultWindow,
		fields: map[string]string{},
	}
	t.headers = hpack.NewDecoder(4096, func(f hpack.HeaderField) { t.fields[f.Name] = f.Value })
	t.frames = http2.NewFramer(&t.out, nil)
	t.out.WriteString(http2.ClientPreface)
	err = errors.Join(
		t.frames.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}),
		t.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: streamID, BlockFragment: requestHeaders, EndHeaders: true}),
	)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return t, nil
}

// close ends the connection as a machine does that goes away.
func (t *transport) close() { _ = t.raw.Close() }

// send sends a message, or as much of it as the windows have room for: the rest follows when they open.
func (t *transport) send(message []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to.messageOut.Add(int64(len(message)))
	var prefix [messageHeader]byte
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(message)))
	t.queue = append(append(t.queue, prefix[:]...), message...)
	return t.flush()
}

// control sends a frame that is not DATA.
func (t *transport) control(write func(*http2.Framer) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := write(t.frames); err != nil {
		return err
	}
	return t.flush()
}

// flush writes what may be written, with mu held.
func (t *transport) flush() error {
	for len(t.queue) > 0 {
		size := int(min(int64(len(t.queue)), t.window, t.connWindow, maxFrame))
		if size <= 0 {
			break
		}
		if err := t.frames.WriteData(streamID, false, t.queue[:size]); err != nil {
			return err
		}
		t.queue = t.queue[size:]
		t.window -= int64(size)
		t.connWindow -= int64(size)
	}
	if len(t.queue) == 0 {
		t.queue = nil
	}
	if t.out.Len() == 0 {
		return nil
	}
	_, err := t.conn.Write(t.out.Bytes())
	t.out.Reset()
	if t.out.Cap() > keptBuffer {
		t.out = bytes.Buffer{}
	}
	return err
}

// next is the next message. It is valid until the next call.
func (t *transport) next() ([]byte, error) {
	if t.pooled != nil {
		*t.pooled = t.message[:0]
		largeMessages.Put(t.pooled)
		t.pooled, t.message = nil, nil
	}
	t.have = 0
	for {
		for t.left > 0 {
			complete, err := t.readData()
			if err != nil {
				return nil, err
			}
			if complete {
				t.to.messageIn.Add(int64(len(t.message)))
				return t.message, nil
			}
		}
		if t.ended {
			return nil, io.EOF
		}
		if err := t.readFrame(); err != nil {
			return nil, err
		}
	}
}

// readData reads on in a DATA frame and reports whether a message is complete.
func (t *transport) readData() (complete bool, err error) {
	var into []byte
	if t.have < messageHeader {
		into = t.prefix[t.have:]
	} else {
		into = t.message[t.have-messageHeader:]
	}
	into = into[:min(len(into), t.left)]
	if _, err := io.ReadFull(t.conn, into); err != nil {
		return false, err
	}
	t.left -= len(into)
	t.have += len(into)
	if err := t.consume(uint32(len(into))); err != nil {
		return false, err
	}
	if t.have == messageHeader {
		if t.prefix[0] != 0 {
			return false, errors.New("a compressed message, which was not asked for")
		}
		t.room(int(binary.BigEndian.Uint32(t.prefix[1:])))
	}
	return t.have >= messageHeader && t.have == messageHeader+len(t.message), nil
}

// room makes room for a message.
func (t *transport) room(size int) {
	switch {
	case size <= cap(t.message):
		t.message = t.message[:size]
	case size <= keptBuffer:
		t.message = make([]byte, size)
	default:
		t.pooled = largeMessages.Get().(*[]byte)
		if cap(*t.pooled) < size {
			*t.pooled = make([]byte, size)
		}
		t.message = (*t.pooled)[:size]
	}
}

// consume opens the windows again.
func (t *transport) consume(size uint32) error {
	t.consumed += size
	if t.consumed < defaultWindow/4 {
		return nil
	}
	opened := t.consumed
	t.consumed = 0
	return t.control(func(f *http2.Framer) error {
		return errors.Join(f.WriteWindowUpdate(0, opened), f.WriteWindowUpdate(streamID, opened))
	})
}

// readFrame reads a frame, of DATA only the header.
func (t *transport) readFrame() error {
	if _, err := io.ReadFull(t.conn, t.head[:]); err != nil {
		return err
	}
	size := int(t.head[0])<<16 | int(t.head[1])<<8 | int(t.head[2])
	kind, flags := http2.FrameType(t.head[3]), http2.Flags(t.head[4])
	if size > maxFrame {
		return fmt.Errorf("a frame of %d bytes: at most %d were allowed", size, maxFrame)
	}
	if kind == http2.FrameData {
		if flags.Has(http2.FlagDataPadded) {
			return errors.New("padded DATA, which gRPC does not send")
		}
		t.left, t.ended = size, flags.Has(http2.FlagDataEndStream)
		return nil
	}
	t.frame = append(t.frame[:0], make([]byte, size)...)
	if _, err := io.ReadFull(t.conn, t.frame); err != nil {
		return err
	}
	return t.receive(kind, flags)
}

// receive takes a frame that is not DATA.
func (t *transport) receive(kind http2.FrameType, flags http2.Flags) error {
	switch kind {
	case http2.FrameSettings:
		if flags.Has(http2.FlagSettingsAck) {
			return nil
		}
		return t.settings()
	case http2.FramePing:
		if flags.Has(http2.FlagPingAck) || len(t.frame) != 8 {
			return nil
		}
		return t.control(func(f *http2.Framer) error { return f.WritePing(true, [8]byte(t.frame)) })
	case http2.FrameWindowUpdate:
		if len(t.frame) != 4 {
			return errors.New("a WINDOW_UPDATE of a wrong size")
		}
		increment := int64(binary.BigEndian.Uint32(t.frame) &^ (1 << 31))
		t.mu.Lock()
		defer t.mu.Unlock()
		if binary.BigEndian.Uint32(t.head[5:])&^(1<<31) == 0 {
			t.connWindow += increment
		} else {
			t.window += increment
		}
		return t.flush()
	case http2.FrameHeaders, http2.FrameContinuation:
		return t.header(kind, flags)
	case http2.FrameRSTStream:
		return fmt.Errorf("the syncer reset the stream: %x", t.frame)
	default: // GOAWAY among them: what is open goes on
		return nil
	}
}

func (t *transport) settings() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for payload := t.frame; len(payload) >= 6; payload = payload[6:] {
		value := int64(binary.BigEndian.Uint32(payload[2:]))
		if http2.SettingID(binary.BigEndian.Uint16(payload)) == http2.SettingInitialWindowSize {
			t.window += value - t.initial
			t.initial = value
		}
	}
	if err := t.frames.WriteSettingsAck(); err != nil {
		return err
	}
	return t.flush()
}

// header takes the stream's header or trailer; the latter says how the stream ended.
func (t *transport) header(kind http2.FrameType, flags http2.Flags) error {
	payload := t.frame
	if kind == http2.FrameHeaders {
		t.block = t.block[:0]
		if flags.Has(http2.FlagHeadersPadded) || flags.Has(http2.FlagHeadersPriority) {
			return errors.New("padded or prioritised HEADERS, which gRPC does not send")
		}
		t.ended = flags.Has(http2.FlagHeadersEndStream)
	}
	t.block = append(t.block, payload...)
	if !flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	if _, err := t.headers.Write(t.block); err != nil {
		return err
	}
	if err := t.headers.Close(); err != nil {
		return err
	}
	t.block = nil
	if !t.ended {
		return nil
	}
	ending := &errStream{message: t.fields["grpc-message"]}
	var err error
	if ending.code, err = strconv.Atoi(t.fields["grpc-status"]); err != nil {
		return fmt.Errorf("the stream ended without a status: HTTP %s", t.fields[":status"])
	}
	ending.after = retryHint(t.fields)
	return ending
}

// retryHint is how long a syncer asks to be left alone, as plugin/watch reads it: google.rpc.RetryInfo, or
// else `retry-after` in seconds.
func retryHint(trailer map[string]string) time.Duration {
	if details, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(trailer["grpc-status-details-bin"], "=")); err == nil {
		var said spb.Status
		if err := proto.Unmarshal(details, &said); err == nil {
			for _, detail := range said.GetDetails() {
				var info errdetails.RetryInfo
				if detail.UnmarshalTo(&info) == nil && info.GetRetryDelay().CheckValid() == nil {
					return info.GetRetryDelay().AsDuration()
				}
			}
		}
	}
	seconds, err := strconv.Atoi(trailer["retry-after"])
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
