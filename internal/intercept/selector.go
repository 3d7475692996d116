package intercept

// The author's selector, read from a stored one: the only parser of wellknown.SelectorAnnotation.

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// record is the value of wellknown.SelectorAnnotation.
type record struct {
	// Original is the author's selector, Written the one that mirrorgate wrote in its place.
	Original map[string]string `json:"original"`
	Written  map[string]string `json:"written"`
}

var errLost = errors.New("its selector leads to proxies, and the selector that it had is recorded nowhere")

// Stored returns the selector that the author of a stored Service means, or the one that is stored if that is
// lost.
func Stored(s *Service) map[string]string {
	original, err := Original(s, nil, nil)
	if err != nil {
		return s.Selector
	}
	return original
}

// Original returns the selector that the author of a Service means, key by key: a value that mirrorgate wrote
// stands for the author's, any other value is new, and a key that is missing was removed. The record is that
// of the object, or where a write stripped it that of the stored object (old, may be nil), or the origin's
// selector (may be nil). It fails if the selector has a sentinel that none of them knows.
func Original(s, old *Service, origin map[string]string) (map[string]string, error) {
	r := cmp.Or(recorded(s), recorded(old), &record{origin, Sentinels(s.Name, origin)})
	sentinel := wellknown.Sentinel(s.Name)
	if len(r.Written) > 0 && maps.Equal(s.Selector, r.Written) {
		return r.Original, nil
	}
	original, partial := map[string]string{}, false
	for key, value := range s.Selector {
		before, known := r.Original[key]
		written, wrote := r.Written[key]
		switch {
		case value != sentinel && (!wrote || value != written):
			original[key] = value
			continue
		case known:
			original[key] = before
		case value == sentinel:
			return nil, errLost
		default:
			// Only the primary has this key.
		}
		partial = partial || before != value
	}
	// Where a value of mirrorgate's is left, the write was a patch of single keys. It cannot have said
	// anything about a key of the author's that the primary does not have, so that key stays.
	for key, before := range r.Original {
		_, wrote := r.Written[key]
		if _, rewritten := original[key]; partial && !wrote && !rewritten {
			original[key] = before
		}
	}
	return original, nil
}

// recorded returns the record of a Service, nil if there is none, or no Service.
func recorded(s *Service) *record {
	if s == nil {
		return nil
	}
	return parse(s.Annotations[wellknown.SelectorAnnotation])
}

// parse reads a record. A record that mirrorgate cannot have written is ignored, so that a forged one cannot
// make the write of a Service invalid.
func parse(text string) *record {
	var r record
	if text == "" || json.Unmarshal([]byte(text), &r) != nil || len(r.Original) == 0 || len(r.Written) == 0 {
		return nil
	}
	for _, m := range []map[string]string{r.Original, r.Written} {
		for key, value := range m {
			if len(validation.IsQualifiedName(key))+len(validation.IsValidLabelValue(value)) > 0 {
				return nil
			}
		}
	}
	return &r
}

// Sentinels returns a selector with every value replaced by the sentinel of a Service.
func Sentinels(service string, selector map[string]string) map[string]string {
	out := make(map[string]string, len(selector))
	for key := range selector {
		out[key] = wellknown.Sentinel(service)
	}
	return out
}

// LeadsToProxies reports whether every value of a selector is the sentinel of its Service.
func LeadsToProxies(service string, selector map[string]string) bool {
	return len(selector) > 0 && maps.Equal(selector, Sentinels(service, selector))
}
