// Heads of answers in HPACK (RFC 7541), without its dynamic table: so heads of several streams are encoded at the same
// time, before it is known which of them leaves first, and a connection keeps no field of an answer.

package streams

import (
	"net/http"
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// staticNames are the names of the static table that occur in heads, with an index of each (RFC 7541 appendix A).
var staticNames = map[string]byte{
	"accept-ranges": 18, "access-control-allow-origin": 20, "age": 21, "allow": 22, "cache-control": 24, "content-disposition": 25, "content-encoding": 26,
	"content-language": 27, "content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31,
	"cookie": 32, "date": 33, "etag": 34, "expires": 36, "last-modified": 44, "link": 45, "location": 46,
	"retry-after": 53, "server": 54, "set-cookie": 55, "strict-transport-security": 56, "vary": 59, "via": 60,
	"www-authenticate": 61, "accept": 19, "accept-encoding": 16, "accept-language": 17, "authorization": 23, "if-match": 39,
	"if-modified-since": 40, "if-none-match": 41, "if-range": 42, "range": 50, "referer": 51, "user-agent": 58,
}

// Patterns of the first byte (RFC 7541 section 6).
const (
	indexed   = 0x80
	tableSize = 0x20
	statusAt  = 8 // the first entry for :status
)

// appendStatus appends :status.
func appendStatus(dst []byte, status int) []byte {
	for i, known := range [...]int{200, 204, 206, 304, 400, 404, 500} {
		if status == known {
			return append(dst, byte(indexed|statusAt+i))
		}
	}
	return strconv.AppendInt(append(dst, statusAt, 3), int64(status), 10)
}

// appendField appends a field as a literal that is not to be indexed, its name in lower case.
func appendField(dst []byte, name, value string) []byte {
	var lower [32]byte
	index := byte(0)
	if len(name) <= len(lower) {
		for i := range len(name) {
			lower[i] = message.LowerByte(name[i])
		}
		index = staticNames[string(lower[:len(name)])]
	}
	if index > 0 {
		dst = appendInt(dst, 4, int(index))
	} else {
		dst = appendInt(append(dst, 0), 7, len(name))
		for i := range len(name) {
			dst = append(dst, message.LowerByte(name[i]))
		}
	}
	return append(appendInt(dst, 7, len(value)), value...)
}

// appendInt appends an integer whose prefix has some bits of a byte, the others of which are 0 (RFC 7541 section 5.1).
func appendInt(dst []byte, prefix, n int) []byte {
	most := 1<<prefix - 1
	if n < most {
		return append(dst, byte(n)) //nolint:gosec // fits the prefix
	}
	dst = append(dst, byte(most)) //nolint:gosec // at most seven bits
	for n -= most; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n)) //nolint:gosec // the last seven
}

// appendReply appends the head of an answer. Its Content-Length is left out where the body's length is not known.
func appendReply(dst []byte, r *message.Reply) []byte {
	dst = appendStatus(dst, r.Status)
	for name, value := range r.Each {
		if (r.Status < 200 || r.Status == http.StatusNoContent || r.Length == message.Unknown) && message.Is(name, "content-length") {
			continue
		}
		dst = appendField(dst, name, value)
	}
	return dst
}
