package dataplane

// mirrorgate's entries in the status of a route: those that the object has, and those that it should have.

import (
	"encoding/json"
	"reflect"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// maxParents is the greatest number of entries that the API allows in status.parents.
const maxParents = 32

// reported is a route's status. Entries are raw, since most belong to other controllers.
type reported struct {
	Parents []json.RawMessage `json:"parents"`
}

// entriesOf returns mirrorgate's entries of a status. An entry that cannot be read is another controller's.
func entriesOf(status json.RawMessage) (entries []ParentStatus) {
	var s reported
	if len(status) == 0 || kjson.UnmarshalCaseSensitivePreserveInts(status, &s) != nil {
		return nil
	}
	for _, raw := range s.Parents {
		if p, is := entry(raw); is {
			entries = append(entries, p)
		}
	}
	return entries
}

// entry reads an entry of status.parents, and reports whether it is mirrorgate's.
func entry(raw json.RawMessage) (p ParentStatus, is bool) {
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &p)
	return p, err == nil && p.ControllerName == wellknown.ControllerName
}

// stale reports whether the object of a route has other entries than it should have.
func (r *route) stale() bool {
	return len(r.stored) != len(r.status) || slices.ContainsFunc(r.status, func(wanted ParentStatus) bool {
		i := slices.IndexFunc(r.stored, func(p ParentStatus) bool { return sameJSON(p.ParentRef, wanted.ParentRef) })
		return i < 0 || !sameConditions(r.stored[i].Conditions, wanted.Conditions)
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

// merge returns status.parents with mirrorgate's entries replaced, and those of other controllers unchanged.
// A condition whose status stays keeps its date. left is the number of entries that did not fit.
func merge(stored []json.RawMessage, wanted []ParentStatus, now metav1.Time) (parents []json.RawMessage, left int, err error) {
	parents = []json.RawMessage{} // the API requires a list
	wanted = slices.Clone(wanted)
	put := func(p ParentStatus, before []metav1.Condition) {
		if p.Conditions = since(p.Conditions, before, now); err == nil {
			var raw json.RawMessage
			raw, err = json.Marshal(p)
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
	for _, p := range wanted {
		if len(parents) >= maxParents {
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
