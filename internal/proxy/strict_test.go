// Requests that try to make the proxy and a backend disagree.

package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// strictness has the bytes of an attacker who wants two parsers to disagree, the statuses that the client
// must get, and how many requests must reach the backend. After each, requests on other connections must get
// their own answers.
var strictness = []struct {
	name string
	raw  string
	want []int
	// forwarded is how many requests the backend must read; contains is a part of the bytes it must read.
	forwarded int
	contains  string
}{
	// Framing that two parsers could read differently.
	{"CL.TE", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", []int{400}, 0, ""},
	{"TE.CL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nZ\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"TE.TE, second unknown", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"TE.TE, both chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"TE list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", []int{501}, 0, ""},
	{"TE gzip, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{501}, 0, ""},
	{"TE identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", []int{501}, 0, ""},
	{"TE xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []int{501}, 0, ""},
	{"TE quoted", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"TE with vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"TE empty", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"TE in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"TE with another case is the same", "POST / HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", []int{200}, 1, "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{"CL twice, different", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", []int{400}, 0, ""},
	{"CL twice, equal", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", []int{400}, 0, ""},
	{"CL list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", []int{400}, 0, ""},
	{"CL plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", []int{400}, 0, ""},
	{"CL minus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", []int{400}, 0, ""},
	{"CL hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", []int{400}, 0, ""},
	{"CL empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", []int{400}, 0, ""},
	{"CL with space inside", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\nabc", []int{400}, 0, ""},
	{"CL overflows 63 bits", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\nabc", []int{400}, 0, ""},
	{"CL overflows 64 bits", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabc", []int{400}, 0, ""},
	{"CL with leading zeros means ten", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0010\r\n\r\n0123456789", []int{200}, 1, "Content-Length: 10\r\n\r\n0123456789"},

	// Line ends.
	{"bare LF in the head", "GET / HTTP/1.1\nHost: a\n\n", []int{400}, 0, ""},
	{"bare LF after one field", "GET / HTTP/1.1\r\nHost: a\r\nX: y\nEvil: z\r\n\r\n", []int{400}, 0, ""},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: y\rEvil: z\r\n\r\n", []int{400}, 0, ""},
	{"bare CR in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\r: y\r\n\r\n", []int{400}, 0, ""},
	{"bare CR in the request line", "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", []int{400}, 0, ""},
	{"one empty line in front", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, 1, "GET / HTTP/1.1\r\n"},
	{"two empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},

	// Header lines.
	{"space before colon", "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", []int{400}, 0, ""},
	{"TE with space before colon", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"tab before colon", "GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n", []int{400}, 0, ""},
	{"folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", []int{400}, 0, ""},
	{"folded TE", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", []int{400}, 0, ""},
	{"space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", []int{400}, 0, ""},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", []int{400}, 0, ""},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", []int{400}, 0, ""},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: y\x00z\r\n\r\n", []int{400}, 0, ""},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\x00: y\r\n\r\n", []int{400}, 0, ""},
	{"control in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", []int{400}, 0, ""},
	{"DEL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", []int{400}, 0, ""},
	{"not ASCII in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xa4: y\r\n\r\n", []int{400}, 0, ""},
	{"not ASCII in a value stays", "GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\xff\r\n\r\n", []int{200}, 1, "X: \xc3\xa4\xff\r\n"},
	{"tab in a value stays", "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", []int{200}, 1, "X: a\tb\r\n"},

	// The request line.
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"tab between", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"space in front", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"no version", "GET /\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", []int{505}, 0, ""},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", []int{505}, 0, ""},
	{"HTTP/0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", []int{505}, 0, ""},
	{"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"method with a colon", "GE:T / HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"target without slash", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"asterisk with OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, 1, "OPTIONS * HTTP/1.1\r\n"},
	{"bytes of the target stay", "GET //a/../%2f%ZZ/\xff?;x=%&&?/ HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, 1, "GET //a/../%2f%ZZ/\xff?;x=%&&?/ HTTP/1.1\r\n"},
	{"empty query stays", "GET /a? HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, 1, "GET /a? HTTP/1.1\r\n"},

	// Host.
	{"no Host", "GET / HTTP/1.1\r\n\r\n", []int{400}, 0, ""},
	{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", []int{400}, 0, ""},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}, 0, ""},
	{"two equal Hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", []int{400}, 0, ""},
	{"Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", []int{400}, 0, ""},
	{"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", []int{400}, 0, ""},
	{"Host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", []int{400}, 0, ""},
	{"Host with a bad port", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", []int{400}, 0, ""},
	{"Host with an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", []int{400}, 0, ""},
	{"Host of IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", []int{200}, 1, "Host: [::1]:80\r\n"},
	{"absolute form, same host", "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, 1, "GET /x HTTP/1.1\r\nHost: a\r\n"},
	{"absolute form, other host", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"absolute form, user in front", "GET http://a@b/x HTTP/1.1\r\nHost: b\r\n\r\n", []int{400}, 0, ""},
	{"absolute form, other port", "GET http://a:81/x HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"absolute form, other scheme", "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"absolute form, no host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"HTTP/1.0 without Host gets one", "GET / HTTP/1.0\r\n\r\n", []int{200}, 1, "Host: 127.0.0.1:"},
	{"Connection cannot take Host", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", []int{200}, 1, "Host: a\r\n"},
	{"Connection cannot take Content-Length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: content-length\r\n\r\nabc", []int{200}, 1, "Content-Length: 3\r\n\r\nabc"},

	// Chunks.
	{"chunk size signed", chunked("+1\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk size 0x", chunked("0x1\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk size empty", chunked("\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk size with space in front", chunked(" 1\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk size with space behind", chunked("1 \r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk size overflows", chunked("10000000000000001\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk size of 16 digits", chunked("ffffffffffffffff\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk line ends in LF", chunked("1\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk data ends in LF", chunked("1\r\na\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk data too long", chunked("1\r\nab\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk data without end", chunked("1\r\na0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk extension goes", chunked("1;a=b\r\na\r\n0;c\r\n\r\n"), []int{200}, 1, "\r\n\r\n1\r\na\r\n0\r\n\r\n"},
	{"chunk extension with bare CR", chunked("1;a\rb\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk extension with LF in quotes", chunked("1;a=\"\n\"\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk extension too long", chunked("1;" + strings.Repeat("a", 300) + "\r\na\r\n0\r\n\r\n"), []int{400}, 0, ""},
	{"chunk extensions too many", chunked(strings.Repeat("1;"+strings.Repeat("a", 100)+"\r\na\r\n", 200) + "0\r\n\r\n"), []int{400}, 0, ""},
	{"trailers stay", chunked("1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"), []int{200}, 1, "0\r\nX-Sum: 1\r\n\r\n"},
	{"trailers cannot frame", chunked("1\r\na\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: b\r\nX: y\r\n\r\n"), []int{200}, 1, "1\r\na\r\n0\r\nX: y\r\n\r\n"},
	{"trailer with bare LF", chunked("1\r\na\r\n0\r\nX: y\n\r\n"), []int{400}, 0, ""},
	{"trailer with space before colon", chunked("1\r\na\r\n0\r\nX : y\r\n\r\n"), []int{400}, 0, ""},
	{"trailers too large", chunked("1\r\na\r\n0\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 70) + "\r\n"), []int{431}, 0, ""},
	{"body cut short", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", nil, 0, ""},
	{"chunked body cut short", chunked("5\r\nabc"), nil, 0, ""},

	// Sizes.
	{"target too long", "GET /" + strings.Repeat("a", 20<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", []int{414}, 0, ""},
	{"request line too long", "GET /" + strings.Repeat("a", 80<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", []int{414}, 0, ""},
	{"one field too large", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", []int{431}, 0, ""},
	{"too many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 128) + "\r\n", []int{431}, 0, ""},
	{"as many fields as may be", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 127) + "\r\n", []int{200}, 1, "X: y\r\n"},
	{"a head near the limit", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 60<<10) + "\r\n\r\n", []int{200}, 1, "X: aaaa"},

	// More than one request.
	{"pipelined", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n", []int{200, 200, 200}, 3, "abc"},
	{"pipelined after chunks", chunked("1\r\na\r\n0\r\n\r\n") + "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n", []int{200, 200}, 2, "GET /3"},
	{"nothing after close", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, 1, "GET /1"},
	{"nothing after HTTP/1.0", "GET /1 HTTP/1.0\r\nHost: a\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\n\r\n", []int{200}, 1, "GET /1"},
	{"HTTP/1.0 keep-alive", "GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", []int{200, 200}, 2, "GET /2"},
	{"nothing after a bad request", "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, 0, ""},
	{"GET with a body", "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\nGET /admin HTTP/1.1\r\nX: x\r\n", []int{200}, 1, "Content-Length: 27\r\n\r\nGET /admin HTTP/1.1\r\nX: x\r\n"},
	{"upgrade to h2c is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to h2c in a list is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, x\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to h2c at the end of a list is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x, h2c\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to h2c in two fields is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nUpgrade: h2c\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to h2c after an empty element is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: , h2c\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to h2c with a version is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c/2\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to h2c in capitals is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: H2C\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to HTTP/2.0 is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: HTTP/2.0\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to TLS and HTTP is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to TLS is not passed on", "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.3\r\n\r\n", []int{200}, 1, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"upgrade to no token is not passed on", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x y\r\n\r\n", []int{200}, 1, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"TE goes on with its connection option", "GET /1 HTTP/1.1\r\nHost: a\r\nTE: gzip, Trailers\r\nConnection: te\r\n\r\n", []int{200}, 1, "Host: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"},
	{"TE without its connection option does not go on", "GET /1 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", []int{200}, 1, "Host: a\r\n\r\n"},
	{"TE without trailers does not go on", "GET /1 HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: TE\r\n\r\n", []int{200}, 1, "Host: a\r\n\r\n"},
	{"CONNECT with a body", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\nabc", []int{400}, 0, ""},
	{"CONNECT to another host", "CONNECT b:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", []int{400}, 0, ""},
	{"TLS where none is spoken", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}, 0, ""},
}

// absoluteForms are targets with an authority, and the form without it, which backends and variants get.
var absoluteForms = []struct{ sent, origin string }{
	{"GET http://a/x?y=%2F", "GET /x?y=%2F"},
	{"GET http://a/x?", "GET /x?"},
	{"GET http://a/", "GET /"},
	{"GET http://a", "GET /"},
	{"GET http://a?y", "GET /?y"},
	{"OPTIONS http://a", "OPTIONS *"},
	{"OPTIONS http://a/", "OPTIONS /"},
	{"OPTIONS http://a?", "OPTIONS /?"},
	{"OPTIONS *", "OPTIONS *"},
}

func TestAbsoluteFormBecomesOriginForm(t *testing.T) {
	for _, tt := range absoluteForms {
		for _, rewritten := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.sent, " rewritten ", rewritten), func(t *testing.T) {
				backend, variant := record(t, ""), record(t, "")
				table := one(backend.addr, variant.addr)
				primary := tt.origin + " HTTP/1.1\r\nHost: a\r\n"
				copied := tt.origin + " HTTP/1.1\r\nHost: a-shadow\r\n"
				if rule := &table.Listeners[0].Rules[0]; rewritten {
					rule.Filters = append(rule.Filters, spec.Filter{Type: "URLRewrite", URLRewrite: &spec.URLRewrite{Hostname: "b"}})
					primary = tt.origin + " HTTP/1.1\r\nHost: b\r\n"
					copied = tt.origin + " HTTP/1.1\r\nHost: b-shadow\r\n"
				}
				s := start(t, table, nil)
				talk(t, s.addr, tt.sent+" HTTP/1.1\r\nHost: a\r\n\r\n")
				eventually(t, func() bool { return len(variant.got()) == 1 }, "the variant gets the copy")
				assert.True(t, strings.HasPrefix(backend.got()[0], primary), "%q", backend.got())
				assert.True(t, strings.HasPrefix(variant.got()[0], copied), "%q", variant.got())
			})
		}
	}
}

// chunked returns a chunked request with this body.
func chunked(body string) string {
	return "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func TestStrictness(t *testing.T) {
	for _, tt := range strictness {
		t.Run(tt.name, func(t *testing.T) {
			backend, variant := record(t, ""), record(t, "")
			s := start(t, one(backend.addr, variant.addr), nil)
			method := "GET"
			assert.Equal(t, tt.want, statuses(t, talk(t, s.addr, tt.raw), method))
			for i := range 3 {
				after := talk(t, s.addr, fmt.Sprintf("GET /after%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", i))
				assert.Equal(t, []int{200}, statuses(t, after, "GET"))
			}
			got := backend.got()
			if assert.Len(t, got, tt.forwarded+3, "%q", got) {
				assert.Contains(t, strings.Join(got[:tt.forwarded], ""), tt.contains)
			}
			eventually(t, func() bool { return len(variant.got()) == tt.forwarded+3 }, "the variant gets every copy")
			for i, r := range variant.got() {
				assert.Contains(t, r, "-shadow", "copy %d", i)
			}
			assert.Empty(t, variant.leftover())
		})
	}
}
