package variant

// Sets of labels. Labels take most of the Index's memory, and thousands of objects carry the same few pairs,
// so each distinct pair is stored once and compared by its address.

import (
	"slices"
	"strings"
	"unique"
)

type pair struct{ key, value string }

type label = unique.Handle[pair]

// labels is a label set in key order.
type labels []label

func newLabels(m map[string]string) labels {
	if len(m) == 0 {
		return nil
	}
	ls := make(labels, 0, len(m))
	for k, v := range m {
		ls = append(ls, unique.Make(pair{k, v}))
	}
	slices.SortFunc(ls, func(a, b label) int { return strings.Compare(a.Value().key, b.Value().key) })
	return ls
}

func (ls labels) has(l label) bool { return slices.Contains(ls, l) }

// contain reports whether ls has every label of want.
func (ls labels) contain(want labels) bool {
	for _, l := range want {
		if !ls.has(l) {
			return false
		}
	}
	return true
}

// merge returns the union of both sets, and false when they have different values for one key.
func (ls labels) merge(other labels) (labels, bool) {
	if len(other) == 0 {
		return ls, true
	}
	union := slices.Clone(ls)
	for _, l := range other {
		if ls.has(l) {
			continue
		}
		if slices.ContainsFunc(ls, func(have label) bool { return have.Value().key == l.Value().key }) {
			return nil, false
		}
		union = append(union, l)
	}
	return union, true
}

// String formats the labels as a selector: a=b,c=d.
func (ls labels) String() string {
	parts := make([]string, len(ls))
	for i, l := range ls {
		parts[i] = l.Value().key + "=" + l.Value().value
	}
	return strings.Join(parts, ",")
}

// generatedKeys are the keys of labels that controllers add to pods and that no pod template has. Argo
// Rollouts and Services for single pods select by them.
var generatedKeys = []string{
	"apps.kubernetes.io/pod-index",
	"controller-revision-hash",
	"pod-template-generation",
	"pod-template-hash",
	"rollouts-pod-template-hash",
	"statefulset.kubernetes.io/pod-name",
}

func isGenerated(l label) bool { return slices.Contains(generatedKeys, l.Value().key) }

// declared returns the labels that a pod template can have, without the generated ones.
func (ls labels) declared() labels {
	if !slices.ContainsFunc(ls, isGenerated) {
		return ls
	}
	return slices.DeleteFunc(slices.Clone(ls), isGenerated)
}
