// The two formats. No request can break a line in two, or make JSON invalid.

package accesslog

import (
	"net"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

// appendCommon appends the Combined Log Format of Apache and nginx, and after it the host, the backend that
// answered, whether it answered the client (primary) or a copy (shadow), and the reason of an answer of the proxy's own:
//
//	127.0.0.1 - - [07/Mar/2018:19:26:44 +0000] "GET /headers HTTP/1.1" 200 361 "-" "curl/7.35.0" "httpbin:8000" httpbin-v1:80 primary
func appendCommon(line []byte, r *core.Record) []byte {
	line = orDash(line, host(r.Remote))
	line = append(line, " - - ["...)
	line = appendSecond(line, r.Start)
	line = append(line, `] "`...)
	if r.Method == "" {
		line = append(line, '-')
	} else {
		line = escape(line, r.Method)
		line = append(line, ' ')
		line = escape(line, r.Target)
		line = append(line, ' ')
		line = protocol(line, r)
	}
	line = append(line, `" `...)
	line = strconv.AppendInt(line, int64(r.Status), 10)
	line = append(line, ' ')
	line = strconv.AppendInt(line, r.Sent, 10)
	for _, value := range []string{field(r, "referer"), field(r, "user-agent"), r.Host} {
		line = append(line, ` "`...)
		line = orDash(line, value)
		line = append(line, '"')
	}
	line = append(line, ' ')
	line = orDash(line, r.Backend)
	line = append(append(line, ' '), kind(r)...)
	if r.Reason != "" {
		line = append(append(line, ' '), r.Reason...)
	}
	return append(line, '\n')
}

// second is a second as text. The last one is kept, because most lines have the same.
type second struct {
	unix     int64
	location *time.Location
	text     string
}

var lastSecond atomic.Pointer[second]

// appendSecond appends the time in appendCommon's format.
func appendSecond(line []byte, at time.Time) []byte {
	s := lastSecond.Load()
	if unix := at.Unix(); s == nil || s.unix != unix || s.location != at.Location() {
		s = &second{unix, at.Location(), at.Format("02/Jan/2006:15:04:05 -0700")}
		lastSecond.Store(s)
	}
	return append(line, s.text...)
}

// appendJSON appends an object. Empty strings are left out; duration is in seconds.
func appendJSON(line []byte, r *core.Record) []byte {
	line = append(line, `{"time":"`...)
	line = r.Start.AppendFormat(line, time.RFC3339Nano)
	line = append(append(line, `","kind":"`...), kind(r)...)
	line = append(line, '"')
	for _, f := range [...]struct{ name, value string }{
		{"remote", r.Remote}, {"method", r.Method}, {"host", r.Host}, {"target", r.Target},
	} {
		line = member(line, f.name, f.value)
	}
	if r.Major > 0 {
		line = append(line, `,"protocol":"`...)
		line = append(protocol(line, r), '"')
	}
	for _, f := range [...]struct {
		name  string
		value int64
	}{{"status", int64(r.Status)}, {"received", r.Received}, {"sent", r.Sent}, {"mirrored", int64(r.Mirrored)}} {
		if f.name == "mirrored" && r.Mirror != "" {
			continue
		}
		line = append(append(append(line, `,"`...), f.name...), `":`...)
		line = strconv.AppendInt(line, f.value, 10)
	}
	line = append(line, `,"duration":`...)
	line = strconv.AppendFloat(line, r.Took.Seconds(), 'f', 6, 64)
	for _, f := range [...]struct{ name, value string }{
		{"listener", r.Listener}, {"rule", r.Rule}, {"mirror", r.Mirror}, {"backend", r.Backend}, {"endpoint", r.Endpoint}, {"reason", string(r.Reason)},
		{"referer", field(r, "referer")}, {"userAgent", field(r, "user-agent")},
	} {
		line = member(line, f.name, f.value)
	}
	return append(line, "}\n"...)
}

func kind(r *core.Record) string {
	if r.Mirror != "" {
		return "shadow"
	}
	return "primary"
}

// field returns the request's first field of that name, or an empty string.
func field(r *core.Record, name string) string {
	if r.Header == nil {
		return ""
	}
	value, _ := r.Header.Get(name)
	return value
}

func host(remote string) string {
	if h, _, err := net.SplitHostPort(remote); err == nil {
		return h
	}
	return remote
}

func protocol(line []byte, r *core.Record) []byte {
	line = strconv.AppendInt(append(line, "HTTP/"...), int64(r.Major), 10)
	return strconv.AppendInt(append(line, '.'), int64(r.Minor), 10)
}

func orDash(line []byte, value string) []byte {
	if value == "" {
		return append(line, '-')
	}
	return escape(line, value)
}

const hex = "0123456789abcdef"

// escape appends value; bytes that could end a field or a line become \xHH, as nginx writes them.
func escape(line []byte, value string) []byte {
	from := 0
	for i := range len(value) {
		if c := value[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			line = append(line, value[from:i]...)
			line = append(line, '\\', 'x', hex[c>>4], hex[c&15])
			from = i + 1
		}
	}
	return append(line, value[from:]...)
}

// member appends ,"name":"value" unless the value is empty. Bytes that are not UTF-8 become U+FFFD.
func member(line []byte, name, value string) []byte {
	if value == "" {
		return line
	}
	line = append(append(append(line, `,"`...), name...), `":"`...)
	for i := 0; i < len(value); {
		c := value[i]
		switch {
		case c == '"' || c == '\\':
			line = append(line, '\\', c)
		case c < ' ' || c == 0x7f:
			line = append(line, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			line = append(line, c)
		default:
			r, size := utf8.DecodeRuneInString(value[i:])
			line = utf8.AppendRune(line, r)
			i += size
			continue
		}
		i++
	}
	return append(line, '"')
}
