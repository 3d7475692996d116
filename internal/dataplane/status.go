package dataplane

// What a route's object says of us, against what it should say.

import (
	"encoding/json"
	"reflect"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// maxParents is how many entries status.parents may have.
const maxParents = 32

// reported is an HTTPRoute's status. An entry is raw, since most are those of others.
type reported struct {
	Parents []json.RawMessage `json:"parents"`
}

// ours reads the entries of a status that are ours. One that cannot be read is not.
func ours(status json.RawMessage) (entries []ParentStatus) {
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

// entry reads an entry of status.parents, and says whether it is ours.
func entry(raw json.RawMessage) (p ParentStatus, is bool) {
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &p)
	return p, err == nil && p.ControllerName == wellknown.ControllerName
}

// stale says that the object of a route does not say what it should.
func (r *route) stale() bool {
	return len(r.stored) != len(r.status) || slices.ContainsFunc(r.status, func(wanted ParentStatus) bool {
		i := slices.IndexFunc(r.stored, func(p ParentStatus) bool { return sameJSON(p.ParentRef, wanted.ParentRef) })
		return i < 0 || !sameConditions(r.stored[i].Conditions, wanted.Conditions)
	})
}

// sameConditions compares conditions, but for when they came to be.
func sameConditions(a, b []metav1.Condition) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		other := apimeta.FindStatusCondition(b, a[i].Type)
		if other == nil {
			return false
		}
		c := *other
		c.LastTransitionTime = a[i].LastTransitionTime
		if c != a[i] {
			return false
		}
	}
	return true
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// merge returns status.parents with the entries of ours replaced, and everybody else's as they are. A
// condition whose status stays keeps the time when it came to be. left is how many of ours did not fit.
func merge(stored []json.RawMessage, wanted []ParentStatus, now metav1.Time) (parents []json.RawMessage, left int, err error) {
	parents = []json.RawMessage{} // the API wants a list
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

// since dates conditions.
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
