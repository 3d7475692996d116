// Package patch builds RFC 6902 operations by hand and applies them in-process.
//
// Operations are built one by one for known positions, not computed by comparing two documents: a comparison
// rewrites neighbours in a list, and through Go types it loses the fields that those types do not have. Every
// patch is checked before it is sent, because the API server denies the user's write when a webhook's patch
// does not apply, even under the failure policy Ignore.
package patch

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	jsonapply "gopkg.in/evanphx/json-patch.v4" // the library that the API server applies patches with
)

// Operation is one RFC 6902 operation.
type Operation = jsonpatch.Operation

// Pointer is an RFC 6901 JSON pointer that is already escaped. The zero value points at the whole document.
type Pointer string

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

// Key returns the pointer to a member of the object at p; the name is escaped.
func (p Pointer) Key(name string) Pointer { return p + "/" + Pointer(escaper.Replace(name)) }

// Index returns the pointer to an element of the list at p.
func (p Pointer) Index(i int) Pointer { return p + "/" + Pointer(strconv.Itoa(i)) }

// End returns the pointer behind the last element of the list at p: Add appends there.
func (p Pointer) End() Pointer { return p + "/-" }

// Add adds a member, or inserts an element before the one at p. A member that exists is replaced (RFC 6902,
// section 4.1).
func Add(p Pointer, value any) Operation { return jsonpatch.NewOperation("add", string(p), value) }

// Remove removes the member or the element at p, which must exist.
func Remove(p Pointer) Operation { return jsonpatch.NewOperation("remove", string(p), nil) }

// Apply applies operations to a JSON document and returns the result. It fails where the API server would
// fail.
func Apply(doc []byte, ops []Operation) ([]byte, error) {
	if len(ops) == 0 {
		return doc, nil
	}
	text, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	decoded, err := jsonapply.DecodePatch(text)
	if err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	out, err := decoded.Apply(doc)
	if err != nil {
		return nil, fmt.Errorf("apply patch: %w", err)
	}
	return out, nil
}
