package route

// Annotations of an object, of which only mirrorgate's own are kept.

import (
	"slices"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ownAnnotations are those that are kept, of which the last says nothing about mirrors.
var ownAnnotations = []string{ParkedAnnotation, GateAnnotation, VariantsAnnotation, DocumentAnnotation}

// annotations are mirrorgate's annotations of an object, and the number and the size of all in bytes.
type annotations struct {
	own          map[string]string
	count, bytes int
}

// IsZero reports whether there is none of mirrorgate's.
func (a annotations) IsZero() bool { return len(a.own) == 0 }

// MarshalJSONTo writes mirrorgate's annotations.
func (a annotations) MarshalJSONTo(enc *jsontext.Encoder) error {
	return jsonv2.MarshalEncode(enc, a.own)
}

// UnmarshalJSONFrom reads the annotations of an object.
func (a *annotations) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	*a = annotations{}
	if dec.PeekKind() != '{' {
		var all map[string]string // null, or the error of another type
		return jsonv2.UnmarshalDecode(dec, &all)
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	var key, value []byte
	for dec.PeekKind() == '"' {
		name, err := dec.ReadValue()
		if err != nil {
			return err
		}
		key, _ = jsontext.AppendUnquote(key[:0], name) // text that is not UTF-8 is replaced
		value = value[:0]
		if dec.PeekKind() == '"' {
			text, err := dec.ReadValue()
			if err != nil {
				return err
			}
			value, _ = jsontext.AppendUnquote(value, text)
		} else {
			var text string // null, or the error of another type
			if err := jsonv2.UnmarshalDecode(dec, &text); err != nil {
				return err
			}
		}
		a.count++
		a.bytes += len(key) + len(value)
		if slices.Contains(ownAnnotations, string(key)) {
			if a.own == nil {
				a.own = map[string]string{}
			}
			a.own[string(key)] = string(value)
		}
	}
	_, err := dec.ReadToken()
	return err
}
