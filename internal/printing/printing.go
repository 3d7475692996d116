// Package printing formats texts for people to read.
package printing

import (
	"encoding/json"
	"io"
	"strings"
	"unicode"
)

// JSON writes a value as indented JSON, without escaping HTML.
func JSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// Plain returns a text for a terminal: control characters become spaces, and invalid UTF-8 becomes question
// marks.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Shorten cuts a text to at most n bytes, without splitting a character; dots stand for the rest.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "..."
}
