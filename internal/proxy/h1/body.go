// Bodies as they arrive: by length, chunked, or until the connection ends. Chunks are decoded here and framed
// anew by the sender; no byte of their framing is passed on (RFC 9112 section 7.1).

package h1

import (
	"errors"
	"io"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

type bodyKind uint8

const (
	noBody bodyKind = iota
	byLength
	byChunks
	byClose
)

// chunkLine is the most bytes of a chunk's first line, extensions included, and chunkOverhead the most bytes
// of all extensions of a body: a client that sends more wants to make the proxy work.
const (
	chunkLine     = 256
	chunkOverhead = 16 << 10
)

var (
	errChunkSize = bad("malformed chunk size")
	errChunkExt  = bad("chunk extensions too long")
	errChunkEnd  = bad("chunk does not end in CR LF")
	errTrailers  = bad("malformed trailers")
)

// body reads one body from a reader.
type body struct {
	in     *reader
	limits *Limits
	kind   bodyKind
	// left is how many bytes are left of the body, or of the current chunk.
	left int64
	// data is set while a chunk has begun whose CR LF is still to come.
	data     bool
	done     bool
	overhead int
	trailers []message.Field
	// padded accepts spaces after the size of a chunk, as servers write them that fill it in later.
	padded bool
	// wait prepares the connection for a read that may wait; nil if no preparation is needed.
	wait func() error
}

func (b *body) reset(length int64, untilClose bool) {
	b.kind, b.left, b.data, b.done, b.overhead, b.trailers = byLength, length, false, false, 0, nil
	switch {
	case untilClose:
		b.kind = byClose
	case length == message.Unknown:
		b.kind, b.left = byChunks, 0
	case length == 0:
		b.kind, b.done = noBody, true
	}
}

// Next returns the bytes that follow, valid until the next call, and waits only if none have arrived. After
// the last it returns io.EOF.
func (b *body) Next() ([]byte, error) {
	if b.done {
		return nil, io.EOF
	}
	if b.kind == byChunks && b.left == 0 {
		if err := b.chunk(); err != nil {
			return nil, err
		}
		if b.done {
			return nil, io.EOF
		}
	}
	if err := b.await(); err != nil {
		if b.kind == byClose && errors.Is(err, io.ErrUnexpectedEOF) {
			b.done = true
			return nil, io.EOF
		}
		return nil, err
	}
	in := b.in
	n := in.w - in.r
	if b.kind != byClose {
		n = int(min(int64(n), b.left))
		b.left -= int64(n)
		b.done = b.kind == byLength && b.left == 0
	}
	in.r += n
	return in.buf[in.r-n : in.r : in.r], nil
}

// await waits until at least one byte is buffered.
func (b *body) await() error {
	if b.in.buffered() > 0 {
		return nil
	}
	if err := b.prepare(); err != nil {
		return err
	}
	return b.in.extend()
}

// prepare is called before every read that may wait.
func (b *body) prepare() error {
	if b.wait == nil {
		return nil
	}
	return b.wait()
}

// Ready reports whether Next returns without waiting.
func (b *body) Ready() bool {
	if b.done {
		return true
	}
	if b.kind == byChunks && b.left == 0 {
		// The line has a few bytes and mostly arrives with the data.
		return b.in.buffered() > chunkLine
	}
	return b.in.buffered() > 0
}

// Whole reads the bytes that have arrived and reports whether they are the rest of the body. The body is then
// in one piece, unless it is longer than a large buffer.
func (b *body) Whole() bool {
	if b.kind != byLength || b.left > buffer.LargeSize {
		return b.done
	}
	in := b.in
	for int64(in.buffered()) < b.left {
		if room := len(in.buf) - in.r; int64(room) < b.left {
			in.move(buffer.Large())
		}
		before := in.buffered()
		if err := in.tryFill(); err != nil || in.buffered() == before {
			return false
		}
	}
	return true
}

// Trailers returns the fields after a chunked body, without those that are forbidden there.
func (b *body) Trailers() []message.Field { return b.trailers }

// Done reports whether the body was read to its end, so that the next message follows.
func (b *body) Done() bool { return b.done }

// chunk reads the end of the current chunk and the first line of the next, and after the last chunk the
// trailers.
func (b *body) chunk() error {
	if b.data {
		line, err := b.line(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return errChunkEnd
		}
		b.data = false
	}
	line, err := b.line(chunkLine)
	if err != nil {
		return err
	}
	size, extension, err := chunkSize(line, b.padded)
	if err != nil {
		return err
	}
	if b.overhead += extension; b.overhead > chunkOverhead {
		return errChunkExt
	}
	if size == 0 {
		return b.readTrailers()
	}
	b.left, b.data = size, true
	return nil
}

// chunkSize parses the hexadecimal digits at the start of the line. extension is the length of the extensions
// after them, and of the padding if that is accepted.
func chunkSize(line []byte, padded bool) (size int64, extension int, err error) {
	i := 0
	for ; i < len(line); i++ {
		digit := hex(line[i])
		if digit < 0 {
			break
		}
		if i == 15 { // 60 bits are enough
			return 0, 0, errChunkSize
		}
		size = size<<4 | int64(digit)
	}
	if i == 0 {
		return 0, 0, errChunkSize
	}
	rest := line[i:]
	if len(rest) == 0 {
		return size, 0, nil
	}
	if after := message.Trim(buffer.View(rest)); after == "" && !padded || after != "" && after[0] != ';' || !message.ValidValue(buffer.View(rest)) {
		return 0, 0, errChunkSize
	}
	return size, len(rest), nil
}

func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// line returns the next line without its CR LF, valid until the next read. limit is the most bytes it may
// have, CR LF included.
func (b *body) line(limit int) ([]byte, error) {
	in := b.in
	for searched := 0; ; {
		for ; searched < in.buffered() && searched < limit; searched++ {
			if in.buf[in.r+searched] != '\n' {
				continue
			}
			if searched == 0 || in.buf[in.r+searched-1] != '\r' {
				return nil, errLineEnd
			}
			line := in.buf[in.r : in.r+searched-1]
			in.r += searched + 1
			return line, nil
		}
		if searched >= limit {
			if limit == 2 {
				return nil, errChunkEnd
			}
			return nil, errChunkExt
		}
		if err := b.prepare(); err != nil {
			return nil, err
		}
		if err := in.extend(); err != nil {
			return nil, err
		}
	}
}

// readTrailers copies the trailers, because they are rare and the buffer is reused.
func (b *body) readTrailers() error {
	var block []byte
	for {
		line, err := b.line(b.limits.Head)
		if err != nil {
			return err
		}
		if len(block)+len(line) > b.limits.Head {
			return errHeadSize
		}
		if len(line) == 0 {
			break
		}
		block = append(append(block, line...), "\r\n"...)
	}
	b.done = true
	if len(block) == 0 {
		return nil
	}
	fields, err := parseFields(string(append(block, "\r\n"...)), nil, b.limits.Fields)
	if err != nil {
		return errTrailers
	}
	for _, f := range fields {
		if !message.TrailerForbidden(f.Name) {
			b.trailers = append(b.trailers, f)
		}
	}
	return nil
}
