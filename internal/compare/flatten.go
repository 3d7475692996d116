package compare

// Why this file exists: an answer becomes a list of fields with a hash and a shape each. No value is kept, so that
// none can get anywhere. Elements of an array are a multiset: their order is a field of its own, because most
// services do not promise one.

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxNesting is how deep objects and arrays are compared by field; what is deeper is compared as text.
	maxNesting = 32
)

// leaf is one field of one answer. aux is a second value: for an order, the hash of the elements without it.
type leaf struct {
	path       pathID
	shape      Shape
	value, aux uint64
}

// flattener turns answers into fields. Workers reuse theirs.
type flattener struct {
	paths  paths
	leaves [3][]leaf
	at     int // the answer that is being read
	text   []byte
	// answers describes the message that a method of gRPC answers; nil if it is not known.
	answers protoreflect.MessageDescriptor
}

func (f *flattener) reset() {
	f.paths.reset()
	for i := range f.leaves {
		f.leaves[i] = f.leaves[i][:0]
	}
}

// put adds a field. Neighbours with the same path, as the elements of an array of numbers have, become one.
func (f *flattener) put(l leaf) {
	list := f.leaves[f.at]
	if n := len(list); n > 0 && list[n-1].path == l.path {
		list[n-1].join(l)
		return
	}
	f.leaves[f.at] = append(list, l)
}

// join adds a field with the same path: the values of an array are compared as a multiset.
func (l *leaf) join(o leaf) {
	l.value += o.value
	l.aux += o.aux
	l.shape |= o.shape
}

// json adds the fields of a JSON document, and returns a hash of it that ignores the order of keys and elements. It
// returns an error for anything else; then the fields are not valid.
func (f *flattener) json(at pathID, body []byte) (uint64, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	dec := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	hash, err := f.value(dec, at, 0, 0)
	if err != nil {
		return 0, err
	}
	return hash, end(dec)
}

// end returns an error unless the document has ended.
func end(dec *jsontext.Decoder) error {
	if dec.PeekKind() != jsontext.KindInvalid {
		return errTrailing
	}
	if _, err := dec.ReadToken(); err != nil && !isEOF(err) {
		return err
	}
	return nil
}

// value adds the next value of a document. raw is the hash of its path with all keys as they are.
func (f *flattener) value(dec *jsontext.Decoder, at pathID, raw uint64, depth int) (uint64, error) {
	kind := dec.PeekKind()
	if depth < maxNesting {
		switch kind {
		case jsontext.KindBeginObject:
			return f.object(dec, at, raw, depth)
		case jsontext.KindBeginArray:
			return f.array(dec, at, raw, depth)
		}
	}
	text, err := dec.ReadValue()
	if err != nil {
		return 0, err
	}
	shape, hash := JSON, mix(5, xxhash.Sum64(text))
	switch kind {
	case jsontext.KindNull:
		shape, hash = Null, 1
	case jsontext.KindTrue:
		shape, hash = Bool, 2
	case jsontext.KindFalse:
		shape, hash = Bool, 3
	case jsontext.KindNumber:
		shape, hash = Number, numberHash(text)
	case jsontext.KindString:
		if f.text, err = jsontext.AppendUnquote(f.text[:0], text); err != nil {
			f.text = append(f.text[:0], text...) // invalid UTF-8
		}
		shape, hash = textShape(string(f.text)), mix(4, xxhash.Sum64(f.text))
	}
	f.put(leaf{path: at, shape: shape, value: mix(raw, hash)})
	return hash, nil
}

func (f *flattener) object(dec *jsontext.Decoder, at pathID, raw uint64, depth int) (uint64, error) {
	f.put(leaf{path: at, shape: Object, value: mix(raw, 6)})
	if _, err := dec.ReadToken(); err != nil {
		return 0, err
	}
	sum := uint64(0)
	for dec.PeekKind() == jsontext.KindString {
		key, err := dec.ReadToken()
		if err != nil {
			return 0, err
		}
		name := key.String()
		keyHash := xxhash.Sum64String(name)
		hash, err := f.value(dec, f.paths.child(at, name), mix(raw, keyHash), depth+1)
		if err != nil {
			return 0, err
		}
		sum += mix(keyHash, hash)
	}
	_, err := dec.ReadToken()
	return mix(6, sum), err
}

func (f *flattener) array(dec *jsontext.Decoder, at pathID, raw uint64, depth int) (uint64, error) {
	f.put(leaf{path: at, shape: Array, value: mix(raw, 7)})
	if _, err := dec.ReadToken(); err != nil {
		return 0, err
	}
	below := f.paths.sub(at, elements)
	var sum, sequence, n uint64
	for ; dec.PeekKind() != jsontext.KindEndArray; n++ {
		hash, err := f.value(dec, below, mix(raw, 8), depth+1)
		if err != nil {
			return 0, err
		}
		sum += mix(9, hash)
		sequence = mix(sequence, hash)
	}
	if _, err := dec.ReadToken(); err != nil {
		return 0, err
	}
	f.ordered(below, raw, n, sum, sequence)
	return mix(7, sum), nil
}

// ordered adds the fields for the number of elements and for their order.
func (f *flattener) ordered(below pathID, raw, n, sum, sequence uint64) {
	f.put(leaf{path: f.paths.sub(below, lengthKind), shape: Number, value: mix(raw, n)})
	f.put(leaf{path: f.paths.sub(below, orderKind), shape: Order, value: mix(raw, sequence), aux: mix(raw, sum)})
}

// numberHash returns the same hash for 1, 1.0 and 1e0. It takes time in proportion to the digits.
func numberHash(text []byte) uint64 {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	mantissa, exponent := text, 0
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		if exponent = smallInt(text[i+1:]); exponent == hugeExponent {
			return mix(10, xxhash.Sum64(text))
		}
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	exponent -= len(fraction)
	digits := append(slices.Clone(whole), fraction...)
	digits = bytes.TrimLeft(digits, "0")
	n := len(digits)
	digits = bytes.TrimRight(digits, "0")
	if len(digits) == 0 {
		return 11
	}
	exponent += n - len(digits)
	hash := mix(xxhash.Sum64(digits), uint64(int64(exponent))) //nolint:gosec // a hash
	if negative {
		hash = mix(12, hash)
	}
	return hash
}

const hugeExponent = 1 << 30

// smallInt parses an exponent, or returns hugeExponent.
func smallInt(text []byte) int {
	sign, n := 1, 0
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		if text[0] == '-' {
			sign = -1
		}
		text = text[1:]
	}
	for _, c := range text {
		if n = 10*n + int(c-'0'); n > 1_000_000 {
			return hugeExponent
		}
	}
	return sign * n
}

// finish makes the leaves of all answers final: by path, each path once.
func (f *flattener) finish() {
	f.paths.finish()
	for i, list := range f.leaves {
		for j := range list {
			list[j].path = f.paths.final[list[j].path]
		}
		slices.SortFunc(list, func(a, b leaf) int { return cmp.Compare(a.path, b.path) })
		kept := list[:0]
		for _, l := range list {
			if n := len(kept); n > 0 && kept[n-1].path == l.path {
				kept[n-1].join(l)
			} else {
				kept = append(kept, l)
			}
		}
		f.leaves[i] = kept
	}
}
