package manifest

// JSON texts: the objects stay as they are, and a tree like that of a YAML text holds their positions.

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	yamlv3 "go.yaml.in/yaml/v3"
)

// parseJSON reads a stream of JSON objects. It returns neither documents nor a fault for a text that is meant
// as YAML.
func parseJSON(c chunk) ([]Document, *fault) {
	start := jsonStart(c.text)
	if start < 0 {
		return nil, nil
	}
	p := jsonParser{text: c.text, line: 1, column: 1, base: start}
	p.dec = jsontext.NewDecoder(bytes.NewReader(c.text[start:]))
	var documents []Document
	for {
		from := p.next()
		node, err := p.value()
		if errors.Is(err, io.EOF) && from == len(c.text) {
			return documents, nil
		}
		if err != nil {
			if isFlow(c.text[start:]) {
				return nil, nil
			}
			return nil, p.fault(c, err)
		}
		shift(node, c.above)
		documents = append(documents, Document{Node: node, Raw: json.RawMessage(c.text[from:p.end()])})
	}
}

// jsonStart returns the offset of the first JSON object, which may stand below comments, as Helm writes; -1
// when the text begins otherwise.
func jsonStart(text []byte) int {
	at := 0
	for line := range bytes.Lines(text) {
		trimmed := bytes.TrimLeft(line, " \t")
		switch {
		case len(bytes.TrimSpace(line)) == 0, trimmed[0] == '#', separates(line, "---") && len(bytes.TrimSpace(line)) == 3:
			at += len(line)
		case trimmed[0] == '{':
			return at + len(line) - len(trimmed)
		default:
			return -1
		}
	}
	return -1
}

// isFlow reports whether a text that begins with a brace is meant as YAML: the first key has no quotes.
func isFlow(text []byte) bool {
	rest := bytes.TrimSpace(text[1:])
	return len(rest) > 0 && rest[0] != '"' && rest[0] != '}'
}

type jsonParser struct {
	text []byte
	dec  *jsontext.Decoder
	// base is the offset at which dec starts, at the offset whose position is line and column.
	base, at, line, column int
}

// end returns the offset behind the last token.
func (p *jsonParser) end() int { return p.base + int(p.dec.InputOffset()) }

// next moves the position to the next token, and returns its offset.
func (p *jsonParser) next() int {
	offset := p.end()
	for offset < len(p.text) && bytes.IndexByte([]byte(" \t\r\n,:"), p.text[offset]) >= 0 {
		offset++
	}
	p.moveTo(offset)
	return offset
}

// moveTo moves the position to an offset.
func (p *jsonParser) moveTo(offset int) {
	passed := p.text[p.at:offset]
	if lines := bytes.Count(passed, []byte("\n")); lines > 0 {
		p.line += lines
		p.column = 1
		passed = passed[bytes.LastIndexByte(passed, '\n')+1:]
	}
	p.column += utf8.RuneCount(passed)
	p.at = offset
}

// value reads one value with everything inside.
func (p *jsonParser) value() (*yamlv3.Node, error) {
	p.next()
	node := &yamlv3.Node{Line: p.line, Column: p.column}
	token, err := p.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{', '[':
		node.Kind, node.Tag, node.Style = yamlv3.MappingNode, "!!map", yamlv3.FlowStyle
		if token.Kind() == '[' {
			node.Kind, node.Tag = yamlv3.SequenceNode, "!!seq"
		}
		for p.dec.PeekKind() != '}' && p.dec.PeekKind() != ']' {
			member, err := p.value()
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, member)
		}
		_, err = p.dec.ReadToken()
		return node, err
	case '"':
		node.Tag, node.Style = "!!str", yamlv3.DoubleQuotedStyle
	case 'n':
		node.Tag = "!!null"
	case '0':
		node.Tag = "!!float"
	default:
		node.Tag = "!!bool"
	}
	node.Kind, node.Value = yamlv3.ScalarNode, token.String()
	return node, nil
}

// fault returns the fault behind an error of the decoder.
func (p *jsonParser) fault(c chunk, err error) *fault {
	message := err.Error()
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		message = "the JSON ends too early: a bracket or a quote is not closed"
		p.moveTo(max(p.at, len(bytes.TrimRight(p.text, " \t\r\n"))))
	case errors.As(err, &syntax):
		message = syntax.Err.Error()
		if errors.Is(err, jsontext.ErrDuplicateName) {
			message = "key " + jsonName(syntax.JSONPointer.LastToken()) + " is set twice"
		}
		p.moveTo(min(max(p.at, p.base+int(syntax.ByteOffset)), len(p.text)))
	}
	return &fault{Error: Error{Line: c.above + p.line, Column: p.column, Message: message}, located: true}
}

func jsonName(s string) string {
	raw, _ := jsontext.AppendQuote(nil, s)
	return string(raw)
}

// shift moves a tree down by some lines.
func shift(node *yamlv3.Node, lines int) {
	if lines == 0 {
		return
	}
	node.Line += lines
	for _, child := range node.Content {
		shift(child, lines)
	}
}
