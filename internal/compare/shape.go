package compare

// Why this file exists: where values are noise, their shapes still tell whether the variant behaves alike, and a shape
// can be shown to people where a value must not.

import (
	"math/bits"
	"strings"
	"time"
)

// Shape is a set of classes: of one value, or of all values that a field has in an array.
type Shape uint32

// The classes of values. Absent means that the answer lacks the field.
const (
	Absent Shape = 1 << iota
	Null
	Bool
	Number
	Object
	Array
	Text
	Empty
	UUID
	Time
	URL
	Digits
	Token
	Bytes
	JSON
	Order
	Informational
	Successful
	Redirection
	ClientError
	ServerError
	Broken
)

var shapeNames = [...]string{
	"absent", "null", "boolean", "number", "object", "array", "text", "empty text", "UUID", "time", "URL", "digits in text",
	"token", "bytes", "JSON", "order", "1xx", "2xx", "3xx", "4xx", "5xx", "no answer",
}

// String returns the names of the classes.
func (s Shape) String() string {
	var names []string
	for rest := uint32(s); rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros32(rest); i < len(shapeNames) {
			names = append(names, shapeNames[i])
		}
	}
	return strings.Join(names, " or ")
}

// textShape returns the class of a text. It looks at no more than its first hundred bytes.
func textShape(s string) Shape {
	if s == "" {
		return Empty
	}
	const most = 100
	if len(s) > most {
		if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
			return URL
		}
		return Text
	}
	switch {
	case isUUID(s):
		return UUID
	case isTime(s):
		return Time
	case strings.HasPrefix(s, "https://"), strings.HasPrefix(s, "http://"):
		return URL
	case isNumeric(s):
		return Digits
	case isToken(s):
		return Token
	}
	return Text
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !isHex(s[i]) {
			return false
		}
	}
	return true
}

func isTime(s string) bool {
	if len(s) < len(time.DateOnly) || !isDigit(s[0]) && s[3] != ',' {
		return false
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime, time.RFC1123, "2006-01-02T15:04:05"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

func isNumeric(s string) bool {
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c):
			digits++
		case c != '.' && c != '-' && c != '+':
			return false
		}
	}
	return digits > 0
}

// isToken reports whether a text looks like an identifier that a machine made: one word that mixes letters and digits,
// or long hexadecimal. A word with at most two digits at its end, like v2 or oauth2, is a name.
func isToken(s string) bool {
	if isUUID(s) {
		return true
	}
	digits, letters, hex, last := 0, 0, 0, 0
	for i := range len(s) {
		c := s[i]
		switch {
		case isDigit(c):
			digits++
			last++
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			letters++
			last = 0
		case c == '-' || c == '_' || c == '.' || c == '~' || c == '+' || c == '/' || c == '=':
			last = 0
		default:
			return false
		}
		if isHex(c) {
			hex++
		}
	}
	switch {
	case digits == 0:
		return hex == len(s) && len(s) >= 8
	case letters == 0:
		return true
	}
	return digits != last || last > 2
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// maxName is the longest name that is shown.
const maxName = 48

// isName reports whether a key, or a segment of a path, is a name that somebody chose for the interface: it may be
// shown. Everything else may be data, such as an id or an address of e-mail.
func isName(s string) bool {
	if s == "" || len(s) > maxName || isToken(s) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z') && c != '_' && c != '-' && c != '.' && c != '$' {
			return false
		}
	}
	return true
}

// statusShape returns the class of a status.
func statusShape(status int) Shape {
	if status < 100 || status > 599 {
		return Broken
	}
	return Informational << (status/100 - 1)
}
