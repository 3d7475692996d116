package lint

// From a text to its documents. They are separated before they are parsed, so that a broken document does not
// hide the others.

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// chunk is the text of one document, and the number of lines above it.
type chunk struct {
	text  []byte
	above int
}

// documents splits a text at the separators of YAML: --- and ... at the start of a line. Several JSON values
// in a row are documents too.
func documents(text []byte) []chunk {
	var chunks []chunk
	start, line, first := 0, 0, 0
	flush := func(end int) {
		if c := (chunk{text[start:end], first}); len(bytes.TrimSpace(c.text)) > 0 {
			chunks = append(chunks, values(c)...)
		}
		start, first = end, line
	}
	at := 0
	for l := range bytes.Lines(text) {
		switch {
		case separates(l, "---"):
			flush(at)
		case separates(l, "..."):
			flush(at)
			start, first = at+len(l), line+1
		}
		at += len(l)
		line++
	}
	flush(len(text))
	return chunks
}

// separates reports whether a line begins with a separator.
func separates(line []byte, separator string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(separator))
	return ok && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

// values splits a stream of JSON objects; any other text is one document. The objects are parsed as YAML,
// which does not allow the tabs that JSON does.
func values(c chunk) []chunk {
	if bytes.TrimSpace(c.text)[0] != '{' {
		return []chunk{c}
	}
	var out []chunk
	for dec := json.NewDecoder(bytes.NewReader(c.text)); ; {
		var value json.RawMessage
		err := dec.Decode(&value)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			return []chunk{c}
		}
		above := bytes.Count(c.text[:int(dec.InputOffset())-len(value)], []byte("\n"))
		out = append(out, chunk{bytes.ReplaceAll(value, []byte("\t"), []byte(" ")), c.above + above})
	}
}
