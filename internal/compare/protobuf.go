package compare

// Why this file exists: a message of protocol buffers has many serialisations, so its bytes must not be compared.
// Its fields are compared by the names that a descriptor gives them, else by number.

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var errFrame = errors.New("not framed as gRPC")

// frames adds the fields of the messages in a body of gRPC.
func (f *flattener) frames(at pathID, body []byte, encoding string) (uint64, error) {
	hash := uint64(13)
	for n := 0; len(body) > 0; n++ {
		if len(body) < 5 || body[0] > 1 {
			return 0, errFrame
		}
		size := int64(binary.BigEndian.Uint32(body[1:]))
		if size > int64(len(body)-5) {
			return 0, errFrame
		}
		message, compressed := body[5:5+size], body[0] == 1
		body = body[5+size:]
		if compressed {
			var ok bool
			if message, ok = gunzip(message); !ok || encoding != "gzip" || len(message) > MaxBody {
				return 0, errFrame
			}
		}
		to := at
		if n > 0 {
			to = f.paths.sub(at, elements) // a stream
		}
		one, ok := f.message(to, 0, message, 0, f.answers)
		if !ok {
			return 0, errFrame
		}
		hash = mix(hash, one)
	}
	return hash, nil
}

// message adds the fields of a message, and returns a hash that ignores their order. It adds nothing and returns false
// if the bytes are no message.
func (f *flattener) message(at pathID, raw uint64, data []byte, depth int, of protoreflect.MessageDescriptor) (uint64, bool) {
	if depth > maxNesting || !isMessage(data) {
		return 0, false
	}
	sum := uint64(0)
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		data = data[n:]
		n = protowire.ConsumeFieldValue(number, kind, data)
		value := data[:n]
		data = data[n:]
		key := uint64(number) //nolint:gosec // positive
		name, field := fieldName(of, number)
		hash := f.wire(f.paths.sub(at, name), mix(raw, key), kind, value, depth, field)
		sum += mix(key, hash)
	}
	return mix(14, sum), true
}

// wire adds one field of a message.
func (f *flattener) wire(at pathID, raw uint64, kind protowire.Type, value []byte, depth int, field protoreflect.FieldDescriptor) uint64 {
	shape := Number
	if kind == protowire.BytesType {
		value, _ = protowire.ConsumeBytes(value)
		if message := field == nil && len(value) > 0 || field != nil && field.Message() != nil; message {
			var of protoreflect.MessageDescriptor
			if field != nil {
				of = field.Message()
			}
			if hash, ok := f.message(at, raw, value, depth+1, of); ok {
				f.put(leaf{path: at, shape: Object, value: mix(raw, 6)})
				return hash
			}
		}
		shape = textShape(string(value))
	}
	hash := mix(uint64(kind)+20, xxhash.Sum64(value)) //nolint:gosec // small
	f.put(leaf{path: at, shape: shape, value: mix(raw, hash)})
	return hash
}

// isMessage reports whether bytes are a message from end to end. Field numbers of a text are mostly larger.
func isMessage(data []byte) bool {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeField(data)
		if n < 0 || number > 10_000 || kind == protowire.StartGroupType || kind == protowire.EndGroupType {
			return false
		}
		data = data[n:]
	}
	return true
}
