package dataplane

// mirrorgate's entries in the status of a route or a policy: those that the object has, and those that it should have.

import (
	"encoding/json"
	"reflect"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// maxParents is the greatest number of entries that the API allows in status.parents, maxAncestors that in
// status.ancestors.
const (
	maxParents   = 32
	maxAncestors = 16
)

// reported is the status of a route, or of a policy. Entries are raw, since most belong to other controllers.
type reported struct {
	Parents   []json.RawMessage `json:"parents"`
	Ancestors []json.RawMessage `json:"ancestors"`
}

// entries returns those of an object of a kind.
func (s *reported) entries(kind Kind) []json.RawMessage {
	if kind == KindBackendTLSPolicy {
		return s.Ancestors
	}
	return s.Parents
}

// field is the name of the list, in the status of an object of a kind, and most is how many entries it may have.
func (k Kind) field() (name string, most int) {
	if k == KindBackendTLSPolicy {
		return "ancestors", maxAncestors
	}
	return "parents", maxParents
}

// entriesOf returns mirrorgate's entries of the status of an object of a kind. An entry that cannot be read is another
// controller's.
func entriesOf(kind Kind, status json.RawMessage) (entries []ParentStatus) {
	var s reported
	if len(status) == 0 || kjson.UnmarshalCaseSensitivePreserveInts(status, &s) != nil {
		return nil
	}
	for _, raw := range s.entries(kind) {
		if p, is := entry(raw); is {
			entries = append(entries, p)
		}
	}
	return entries
}

// writtenEntry is an entry of either list.
type writtenEntry struct {
	ParentStatus
	AncestorRef json.RawMessage `json:"ancestorRef"`
}

// entry reads an entry of status.parents or status.ancestors, and reports whether it is mirrorgate's.
func entry(raw json.RawMessage) (p ParentStatus, is bool) {
	var w writtenEntry
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &w)
	if len(w.ParentRef) == 0 {
		w.ParentRef = w.AncestorRef
	}
	return w.ParentStatus, err == nil && w.ControllerName == wellknown.ControllerName
}

// marshal returns an entry as the list of a kind has it.
func (p *ParentStatus) marshal(kind Kind) (json.RawMessage, error) {
	if kind != KindBackendTLSPolicy {
		return json.Marshal(p)
	}
	return json.Marshal(map[string]any{"ancestorRef": p.ParentRef, "controllerName": p.ControllerName, "conditions": p.Conditions})
}

// stale reports whether the object of a route has other entries than it should have.
func (r *route) stale() bool { return stale(r.stored, r.status) }

// stale reports whether an object has other entries than it should have.
func stale(stored, wanted []ParentStatus) bool {
	return len(stored) != len(wanted) || slices.ContainsFunc(wanted, func(wanted ParentStatus) bool {
		i := slices.IndexFunc(stored, func(p ParentStatus) bool { return sameJSON(p.ParentRef, wanted.ParentRef) })
		return i < 0 || !sameConditions(stored[i].Conditions, wanted.Conditions)
	})
}

// sameConditions compares conditions except their dates.
func sameConditions(a, b []metav1.Condition) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(c metav1.Condition) bool {
		other := apimeta.FindStatusCondition(b, c.Type)
		if other != nil {
			c.LastTransitionTime = other.LastTransitionTime
		}
		return other == nil || *other != c
	})
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// merge returns the list of an object of a kind with mirrorgate's entries replaced, and those of other controllers
// unchanged. A condition whose status stays keeps its date. left is the number of entries that did not fit.
func merge(kind Kind, stored []json.RawMessage, wanted []ParentStatus, now metav1.Time) (parents []json.RawMessage, left int, err error) {
	parents = []json.RawMessage{} // the API requires a list
	wanted = slices.Clone(wanted)
	put := func(p ParentStatus, before []metav1.Condition) {
		if p.Conditions = since(p.Conditions, before, now); err == nil {
			var raw json.RawMessage
			raw, err = p.marshal(kind)
			parents = append(parents, raw)
		}
	}
	for _, raw := range stored {
		old, is := entry(raw)
		if !is {
			parents = append(parents, raw)
			continue
		}
		i := slices.IndexFunc(wanted, func(p ParentStatus) bool { return sameJSON(p.ParentRef, old.ParentRef) })
		if i >= 0 {
			put(wanted[i], old.Conditions)
			wanted = slices.Delete(wanted, i, i+1)
		}
	}
	_, most := kind.field()
	for _, p := range wanted {
		if len(parents) >= most {
			left++
			continue
		}
		put(p, nil)
	}
	return parents, left, err
}

// since returns conditions with their dates: those of before where the status is the same, else now.
func since(conditions, before []metav1.Condition, now metav1.Time) []metav1.Condition {
	out := slices.Clone(conditions)
	for i := range out {
		out[i].LastTransitionTime = now
		if old := apimeta.FindStatusCondition(before, out[i].Type); old != nil && old.Status == out[i].Status && !old.LastTransitionTime.IsZero() {
			out[i].LastTransitionTime = old.LastTransitionTime
		}
	}
	return out
}
