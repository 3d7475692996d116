package manifest

// From a text to its documents. They are separated before they are parsed, so that a broken document does not
// hide the others.

import (
	"bytes"
	"iter"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// byteOrderMark may stand in front of a text.
const byteOrderMark = "\ufeff"

// chunk is the text of one document, and the number of lines above it.
type chunk struct {
	text  []byte
	above int
}

// Parse splits a text at the separators of YAML and yields its documents one after the other, so that a long text
// needs the memory of one tree. Several JSON values in a row are documents too. A fault of one document is its Err,
// and the others are read all the same.
func Parse(text []byte) iter.Seq[Document] {
	return func(yield func(Document) bool) {
		located, number := 0, 0
		for _, c := range split(bytes.TrimPrefix(text, []byte(byteOrderMark))) {
			found, err := parse(c)
			if err != nil {
				if located++; located <= maxLocated {
					err.locate(c)
				}
				found = []Document{{Err: &err.Error}}
			}
			for i, d := range found {
				number++
				d.Number, d.Text, d.Above, d.index = number, c.text, c.above, i
				if !yield(d) {
					return
				}
			}
		}
	}
}

// Tree parses the document once more, for a position in it after its Node was dropped.
func (d *Document) Tree() *yamlv3.Node {
	found, err := parse(chunk{d.Text, d.Above})
	if err != nil || d.index >= len(found) {
		return nil
	}
	return found[d.index].Node
}

// Single parses a text that must be one document, for readers that report all faults of its values at once: Parse refuses a
// document for a key that is there twice, and hides the others. The root is nil without content, and where the text cannot
// be parsed.
func Single(text []byte) (root *yamlv3.Node, faults []*Error) {
	var whole yamlv3.Node
	syntax := yamlv3.Unmarshal(text, &whole)
	documents := 0
	for d := range Parse(text) {
		switch {
		case syntax != nil && d.Err != nil:
			faults = append(faults, d.Err)
		case d.Raw == nil && d.Err == nil: // only comments
		default:
			if documents++; documents > 1 {
				faults = append(faults, &Error{Line: d.Above + 1, Column: 1, Message: "a second document; a configuration has one"})
			}
		}
	}
	if syntax == nil && len(whole.Content) > 0 {
		root = whole.Content[0]
	}
	return root, faults
}

// parse reads one chunk: JSON where it is JSON, else YAML.
func parse(c chunk) ([]Document, *fault) {
	documents, jsonErr := parseJSON(c)
	if jsonErr == nil && documents != nil {
		return documents, nil
	}
	document, err := parseYAML(c)
	switch {
	case err == nil:
		return []Document{document}, nil
	case jsonErr != nil:
		return nil, jsonErr
	default:
		return nil, err
	}
}

// split splits a text at lines that begin with --- or with "...".
func split(text []byte) []chunk {
	var chunks []chunk
	start, line, first := 0, 0, 0
	flush := func(end int) {
		if c := (chunk{text[start:end], first}); len(bytes.TrimSpace(c.text)) > 0 {
			chunks = append(chunks, c)
		}
		start, first = end, line
	}
	at := 0
	for l := range bytes.Lines(text) {
		switch {
		case separates(l, "---"):
			if !onlyDirectives(text[start:at]) {
				flush(at)
			}
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

// onlyDirectives reports whether a text has directives such as %YAML, which belong to the document below
// them, and no content.
func onlyDirectives(text []byte) bool {
	if len(text) == 0 || !bytes.Contains(text, []byte("%")) {
		return false
	}
	for l := range bytes.Lines(text) {
		l = bytes.TrimSpace(l)
		if len(l) > 0 && l[0] != '%' && l[0] != '#' {
			return false
		}
	}
	return true
}

// Field returns a member of a mapping with its key, or an element of a sequence as both, by its name or its
// number; nil when there is none. Aliases are resolved.
func Field(node *yamlv3.Node, name string) (key, value *yamlv3.Node) {
	node = Resolve(node)
	switch node.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == name {
				return node.Content[i], Resolve(node.Content[i+1])
			}
		}
	case yamlv3.SequenceNode:
		if n, ok := number(name, len(node.Content)); ok {
			element := Resolve(node.Content[n])
			return element, element
		}
	}
	return nil, nil
}

// number reads the index of an element.
func number(text string, length int) (n int, ok bool) {
	if text == "" || len(text) > 9 {
		return 0, false
	}
	for _, digit := range []byte(text) {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		n = 10*n + int(digit-'0')
	}
	return n, n < length
}

// Resolve returns the node that an alias stands for, another node as it is.
func Resolve(node *yamlv3.Node) *yamlv3.Node {
	for node != nil && node.Kind == yamlv3.AliasNode {
		node = node.Alias
	}
	return node
}
