package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protocol "google.golang.org/protobuf/proto"
)

// raw is a message as it is on the wire.
type raw []byte

// rawCodec sends raw messages as they are, and gives what comes as it is to a *raw.
type rawCodec struct{ encoding.CodecV2 }

func newRawCodec() rawCodec { return rawCodec{encoding.GetCodecV2(proto.Name)} }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if message, is := v.(raw); is {
		return mem.BufferSlice{mem.SliceBuffer(message)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if message, is := v.(*raw); is {
		*message = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// maxConversation bounds the messages of one input.
const maxConversation = 64

// conversation is the messages of an input: each has its length in two bytes before it.
func conversation(input []byte) (messages []raw) {
	for len(input) >= 2 && len(messages) < maxConversation {
		length := min(int(binary.BigEndian.Uint16(input)), len(input)-2)
		messages = append(messages, raw(input[2:2+length]))
		input = input[2+length:]
	}
	return messages
}

// said is the input that makes these messages, each a protocol.Message or bytes.
func said(messages ...any) []byte {
	var input bytes.Buffer
	for _, message := range messages {
		encoded, isRaw := message.([]byte)
		if !isRaw {
			var err error
			if encoded, err = protocol.Marshal(message.(protocol.Message)); err != nil {
				panic(fmt.Sprintf("encode a seed: %v", err))
			}
		}
		var length [2]byte
		binary.BigEndian.PutUint16(length[:], uint16(len(encoded)))
		input.Write(length[:])
		input.Write(encoded)
	}
	return input.Bytes()
}
