// Package printing formats texts for people to read.
package printing

import (
	"encoding/json"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
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

// Gap is the number of spaces between two columns of a Table.
const Gap = 3

// Table lays out lines of cells in columns, each as wide as its widest cell. All lines have as many cells as the first.
func Table(lines [][]string) string {
	var widths []int
	for _, line := range lines {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			b.WriteString(cell)
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+Gap))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
