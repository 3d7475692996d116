package patch

// A check of a patch that is cheap enough for every answer.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Check returns the error that Apply would return for operations that Add and Remove make, nil when they
// apply to the JSON document. It builds no result and decodes only the values on the operations' paths, so
// that it is several times cheaper than Apply and can run on every patch of an answer.
func Check(doc []byte, ops []Operation) error {
	root, err := open(doc)
	if err != nil {
		return fmt.Errorf("decode document: %w", err)
	}
	for _, op := range ops {
		tokens, err := split(op.Path)
		if err == nil {
			root, err = walk(root, tokens, op)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", op.Operation, op.Path, err)
		}
	}
	return nil
}

var unescaper = strings.NewReplacer("~1", "/", "~0", "~")

// split returns the unescaped tokens of an RFC 6901 pointer.
func split(path string) ([]string, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, errors.New("the path does not name a part of the document")
	}
	tokens := strings.Split(path[1:], "/")
	for i, token := range tokens {
		if strings.Contains(token, "~") {
			tokens[i] = unescaper.Replace(token)
		}
	}
	return tokens, nil
}

// lenient accepts every text that a webhook may have read. A member that is there twice counts as the last one.
var lenient = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))

// open decodes one level of an object or a list, whose parts are those of the text and no copies; any other value
// gives nil.
func open(raw jsontext.Value) (node any, err error) {
	kind := raw.Kind()
	if kind != '{' && kind != '[' {
		return nil, nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), lenient)
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	object, list := map[string]any{}, []any{}
	for next := dec.PeekKind(); next != '}' && next != ']'; next = dec.PeekKind() {
		var name string
		if kind == '{' {
			token, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			name = token.String()
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		end := int(dec.InputOffset())
		part := raw[end-len(value) : end : end]
		if kind == '{' {
			object[name] = part
		} else {
			list = append(list, part)
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is text behind the document")
	}
	if kind == '{' {
		return object, nil
	}
	return list, nil
}

// walk applies one operation below a node and returns the node that replaces it, since a list that grows may
// move.
func walk(node any, tokens []string, op Operation) (any, error) {
	last := len(tokens) == 1
	if raw, ok := node.(jsontext.Value); ok {
		var err error
		if node, err = open(raw); err != nil {
			return nil, err
		}
	}
	switch n := node.(type) {
	case map[string]any:
		child, ok := n[tokens[0]]
		switch {
		case last && op.Operation == "add":
			n[tokens[0]] = op.Value
		case !ok:
			return nil, fmt.Errorf("there is no member %q", tokens[0])
		case last:
			delete(n, tokens[0])
		default:
			child, err := walk(child, tokens[1:], op)
			n[tokens[0]] = child
			return n, err
		}
		return n, nil
	case []any:
		return walkList(n, tokens, op)
	default:
		return nil, fmt.Errorf("there is no object or list with %q", tokens[0])
	}
}

// walkList is walk for a list.
func walkList(list []any, tokens []string, op Operation) (any, error) {
	last := len(tokens) == 1
	if last && op.Operation == "add" && tokens[0] == "-" {
		return append(list, op.Value), nil
	}
	i, err := strconv.Atoi(tokens[0])
	end := len(list)
	if last && op.Operation == "add" {
		end++
	}
	switch {
	case err != nil || i < 0 || i >= end:
		return nil, fmt.Errorf("a list of %d has no %q", len(list), tokens[0])
	case last && op.Operation == "add":
		return slices.Insert(list, i, op.Value), nil
	case last:
		return slices.Delete(list, i, i+1), nil
	default:
		list[i], err = walk(list[i], tokens[1:], op)
		return list, err
	}
}
