// Frames as bytes (RFC 9113 section 4): their headers, their types and the codes of errors.

package streams

import "encoding/binary"

// frameHeader is the length of a frame's header, and maxFrame the most bytes of a frame's payload, in either direction:
// the least that a peer must accept, so that nothing has to be negotiated.
const (
	frameHeader = 9
	maxFrame    = 16 << 10
)

type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePush
	framePing
	frameGoAway
	frameWindow
	frameContinuation
)

// Flags. flagAck is that of SETTINGS and PING.
const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// code is the code of an error (RFC 9113 section 7).
type code uint32

const (
	codeNo code = iota
	codeProtocol
	codeInternal
	codeFlowControl
	codeSettingsTimeout
	codeStreamClosed
	codeFrameSize
	codeRefused
	codeCancel
	codeCompression
	codeConnect
	codeExcess
)

// Settings (RFC 9113 section 6.5.2).
const (
	settingTableSize  = 1
	settingPush       = 2
	settingStreams    = 3
	settingWindow     = 4
	settingFrameSize  = 5
	settingHeaderList = 6
)

// maxWindow is the largest window, and defaultWindow that before any SETTINGS.
const (
	maxWindow     = 1<<31 - 1
	defaultWindow = 1<<16 - 1
)

// frame is a frame without its payload.
type frame struct {
	kind   frameType
	flags  uint8
	stream uint32
}

func (f *frame) has(flag uint8) bool { return f.flags&flag != 0 }

// parseFrame reads a frame's header.
func parseFrame(b []byte) (f frame, length int) {
	length = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	return frame{frameType(b[3]), b[4], binary.BigEndian.Uint32(b[5:]) & maxWindow}, length
}

// putFrame writes a frame's header to the start of b.
func putFrame(b []byte, length int, f frame) {
	b[0], b[1], b[2], b[3], b[4] = byte(length>>16), byte(length>>8), byte(length), byte(f.kind), f.flags //nolint:gosec // a length has 24 bits
	binary.BigEndian.PutUint32(b[5:], f.stream)
}

func appendFrame(dst []byte, length int, f frame) []byte {
	var header [frameHeader]byte
	putFrame(header[:], length, f)
	return append(dst, header[:]...)
}

func appendReset(dst []byte, stream uint32, why code) []byte {
	dst = appendFrame(dst, 4, frame{kind: frameReset, stream: stream})
	return binary.BigEndian.AppendUint32(dst, uint32(why))
}

func appendWindow(dst []byte, stream uint32, n int) []byte {
	dst = appendFrame(dst, 4, frame{kind: frameWindow, stream: stream})
	return binary.BigEndian.AppendUint32(dst, uint32(n)) //nolint:gosec // a part of a window
}

func appendGoAway(dst []byte, last uint32, why code) []byte {
	dst = appendFrame(dst, 8, frame{kind: frameGoAway})
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, last), uint32(why))
}

// appendSettings appends SETTINGS with pairs of an identifier and a value.
func appendSettings(dst []byte, pairs ...uint32) []byte {
	dst = appendFrame(dst, 3*len(pairs), frame{kind: frameSettings})
	for ; len(pairs) >= 2; pairs = pairs[2:] {
		dst = binary.BigEndian.AppendUint16(dst, uint16(pairs[0])) //nolint:gosec // identifiers are small
		dst = binary.BigEndian.AppendUint32(dst, pairs[1])
	}
	return dst
}

// appendBlock appends a header block as HEADERS and, if it is long, CONTINUATION. Nothing may come between them.
func appendBlock(dst []byte, stream uint32, flags uint8, block []byte) []byte {
	for kind := frameHeaders; ; kind, flags = frameContinuation, 0 {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		dst = append(appendFrame(dst, n, frame{kind, flags, stream}), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return dst
		}
	}
}
