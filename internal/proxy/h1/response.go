// Heads of responses, parsed as strictly as those of requests: a response that could be read in two ways
// would poison the connection it arrived on.

package h1

import (
	"bytes"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// parseResponse reads a whole head, its last empty line included, into resp. untilClose reports that the body
// ends with the connection.
func parseResponse(head string, resp *message.Response, f *framing, method string, limits *Limits) (untilClose bool, err error) {
	first, rest, ok := line(head)
	if !ok {
		return false, errLineEnd
	}
	minor, err := statusLine(first, resp)
	if err != nil {
		return false, err
	}
	if resp.Fields, err = f.parse(rest, resp.Fields, minor, limits); err != nil {
		return false, err
	}
	resp.HopByHop = f.hopByHop
	f.close = f.close || minor == 0 && !f.keepAlive
	switch status := resp.Status; {
	case method == "HEAD", status < 200, status == 204, status == 304, method == "CONNECT" && status < 300:
		resp.Bodyless = true
		resp.Length = 0
	case f.chunked:
		resp.Length = message.Unknown
	case f.length >= 0:
		resp.Length = f.length
	default:
		resp.Length = message.Unknown
		f.close = true
		return true, nil
	}
	return false, nil
}

func statusLine(b string, resp *message.Response) (minor int, err error) {
	resp.Bodyless = false
	if len(b) < 12 || b[:7] != "HTTP/1." || !digit(b[7]) || b[8] != ' ' ||
		!digit(b[9]) || !digit(b[10]) || !digit(b[11]) || b[9] == '0' {
		return 0, errStatusLine
	}
	resp.Status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	resp.Reason = ""
	if len(b) > 12 {
		if b[12] != ' ' || !message.ValidValue(b[13:]) {
			return 0, errStatusLine
		}
		resp.Reason = b[13:]
	}
	return int(b[7] - '0'), nil
}

var blank = []byte("\r\n\r\n")

// headEnd returns the length of the head at the start of b, its empty line included, or 0 if it is not
// complete. from is where the last search ended.
func headEnd(b []byte, from int) int {
	from = max(from-3, 0)
	if i := bytes.Index(b[from:], blank); i >= 0 {
		return from + i + 4
	}
	return 0
}
