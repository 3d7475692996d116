package compare

// Why this file exists: it decides how bodies are read. Three bodies are compared by field only if all are of one
// form; else their forms are the difference.

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"strings"

	"github.com/cespare/xxhash/v2"
)

var errTrailing = errors.New("more than one value")

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// form is how a body is compared.
type form uint8

const (
	empty   form = iota
	text         // as bytes: by hash
	jsonDoc      // by field
	grpc         // by frames and field numbers
	long         // by length
)

// plain is a body without its content coding.
type plain struct {
	form form
	data []byte
}

// decode removes gzip and finds the form of a body.
func decode(a *Answer) plain {
	if a.Long {
		return plain{form: long}
	}
	data := a.Body
	switch strings.ToLower(a.get("content-encoding")) {
	case "", "identity":
	case "gzip", "x-gzip":
		var ok bool
		if data, ok = gunzip(data); !ok {
			return plain{form: text, data: a.Body}
		}
		if len(data) > MaxBody {
			return plain{form: long}
		}
	default:
		return plain{form: text, data: data}
	}
	kind, _, _ := mime.ParseMediaType(a.get("content-type"))
	start := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case strings.HasPrefix(kind, "application/grpc"):
		return plain{form: grpc, data: data}
	case len(data) == 0:
		return plain{}
	case kind == "application/json", strings.HasSuffix(kind, "+json"), len(start) > 0 && (start[0] == '{' || start[0] == '['):
		return plain{form: jsonDoc, data: data}
	}
	return plain{form: text, data: data}
}

// gunzip returns at most one byte more than MaxBody.
func gunzip(data []byte) ([]byte, bool) {
	if len(data) == 0 {
		return nil, true
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxBody+1))
	return out, err == nil
}

// bodies adds the fields of the bodies of all answers, and returns a hash for each that ignores order.
func (f *flattener) bodies(answers []*Answer) (hashes [3]uint64) {
	var read [3]plain
	same := true
	for i, a := range answers {
		read[i] = decode(a)
		same = same && read[i].form == read[0].form
	}
	at := f.paths.sub(rootPath, "body")
	if same && (read[0].form == jsonDoc || read[0].form == grpc) {
		kept := [3]int{len(f.leaves[0]), len(f.leaves[1]), len(f.leaves[2])}
		valid := [3]bool{}
		for i := range answers {
			f.at = i
			var err error
			if read[i].form == jsonDoc {
				hashes[i], err = f.json(at, read[i].data)
			} else {
				hashes[i], err = f.frames(at, read[i].data, answers[i].get("grpc-encoding"))
			}
			valid[i] = err == nil
		}
		if valid[0] && valid[1] && (valid[2] || len(answers) < 3) {
			return hashes
		}
		for i := range answers { // one is not of the form that it claims
			f.leaves[i] = f.leaves[i][:kept[i]]
			if !valid[i] {
				read[i].form = text
			}
		}
	}
	for i, a := range answers {
		f.at = i
		hashes[i] = f.opaque(at, &read[i], a)
	}
	return hashes
}

// opaque adds the fields of a body that is compared as a whole.
func (f *flattener) opaque(at pathID, p *plain, a *Answer) uint64 {
	switch p.form {
	case empty:
		f.put(leaf{path: at, shape: Empty, value: 1})
		return 1
	case long:
		length := uint64(max(a.Length, 0))
		f.put(leaf{path: f.paths.sub(at, lengthKind), shape: Bytes, value: length})
		return length
	case jsonDoc, grpc:
		hash := xxhash.Sum64(p.data)
		f.put(leaf{path: at, shape: JSON, value: hash})
		return hash
	}
	hash := xxhash.Sum64(p.data)
	f.put(leaf{path: at, shape: Bytes, value: hash})
	return hash
}
