package server

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// message is a WatchResponse that is encoded already. Its buffers are shared and never modified.
type message struct {
	buffers mem.BufferSlice
}

// codec sends a *message as it is and leaves everything else to protobuf.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, encoded := v.(*message); encoded {
		m.buffers.Ref()
		return m.buffers, nil
	}
	return c.CodecV2.Marshal(v)
}
