package compare

// Why this file exists: three answers become a list of fields, each with the pairs of answers that are equal in it.
// Variant and control are treated alike here: no rule may depend on which of the two is the odd one.

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// fieldResult is one field of a triple.
type fieldResult struct {
	path pathID
	// hash identifies the field within its endpoint.
	hash uint64
	// value and shape are the pairs of answers that are equal in the field.
	value, shape equality
	shapes       [3]Shape
}

// tripleResult is the comparison of the answers to one request.
type tripleResult struct {
	// equal reports that all answers are equal, and that there are no fields.
	equal  bool
	fields []fieldResult
	// statuses are the statuses of the three.
	statuses [3]int
	// long reports that bodies were too long to be compared.
	long bool
}

// unseen are header fields that describe the connection, the moment or the way of an answer and not the answer.
// A length is compared with its body.
var unseen = []string{
	"date", "age", "connection", "keep-alive", "transfer-encoding", "content-length", "x-cache", "x-cache-hits", "via",
	"cf-ray", "server-timing", "alt-svc",
}

// comparison is what one worker needs to compare answers. It is reused, and holds no value between two samples.
type comparison struct {
	flattener
	ignore []Ignore
	// messages are the messages that methods of gRPC answer.
	messages Descriptors
	out      tripleResult
	// absent has, by path, a bit for each answer that lacks the field.
	absent []uint8
}

// compare compares the answers of a sample. The result is valid until the next call. In a pair the primary's answer
// stands for the control's too.
func (c *comparison) compare(s *Sample) *tripleResult {
	answers := []*Answer{&s.Primary, &s.Variant}
	if s.Control != nil {
		answers = append(answers, s.Control)
	}
	c.out = tripleResult{fields: c.out.fields[:0]}
	for i := range c.out.statuses {
		c.out.statuses[i] = answers[min(i, len(answers)-1)].Status
	}
	if len(answers) < 3 {
		c.out.statuses[2] = s.Primary.Status
	}
	c.out.long = slices.ContainsFunc(answers, func(a *Answer) bool { return a.Long })
	if c.out.equal = sameBytes(answers); c.out.equal {
		return &c.out
	}
	c.reset()
	c.answers = c.messages[s.Path]
	hashes := c.flatten(answers)
	if len(answers) < 3 {
		c.leaves[2] = append(c.leaves[2][:0], c.leaves[0]...)
		hashes[2] = hashes[0]
	}
	c.paths.sub(c.paths.sub(rootPath, "body"), elementsKind)
	c.finish()
	c.pair()
	c.together(hashes)
	return &c.out
}

// forget removes the traces of the last sample.
func (c *comparison) forget() {
	clear(c.text[:cap(c.text)])
	for i := range c.leaves {
		clear(c.leaves[i][:cap(c.leaves[i])])
	}
	c.reset()
}

// sameBytes reports whether all answers are the same, byte by byte.
func sameBytes(answers []*Answer) bool {
	first := answers[0]
	for _, a := range answers[1:] {
		if a.Status != first.Status || a.Failure != first.Failure || a.Long || first.Long || string(a.Body) != string(first.Body) ||
			!slices.Equal(a.Trailers, first.Trailers) || !sameFields(a.Fields, first.Fields) {
			return false
		}
	}
	return true
}

// sameFields reports whether two lists are equal but for unseen fields.
func sameFields(a, b []Field) bool {
	for i, j := 0, 0; ; i, j = i+1, j+1 {
		for i < len(a) && isUnseen(a[i].Name) {
			i++
		}
		for j < len(b) && isUnseen(b[j].Name) {
			j++
		}
		if i >= len(a) || j >= len(b) {
			return i >= len(a) && j >= len(b)
		}
		if a[i] != b[j] {
			return false
		}
	}
}

func isUnseen(name string) bool {
	return slices.ContainsFunc(unseen, func(u string) bool { return len(u) == len(name) && strings.EqualFold(u, name) })
}

// flatten adds the fields of all answers. Answers with different statuses are compared by status alone: a page of
// errors has other fields, and each of them would be a finding.
func (c *comparison) flatten(answers []*Answer) (hashes [3]uint64) {
	status, failure := c.paths.sub(rootPath, "status"), c.paths.sub(rootPath, "error")
	alike := true
	for i, a := range answers {
		c.at = i
		shape := statusShape(a.Status)
		c.put(leaf{path: status, shape: shape, value: uint64(max(a.Status, 0))})
		c.put(leaf{path: failure, shape: failureShape(a), value: uint64(failureShape(a))})
		alike = alike && a.Status == answers[0].Status && a.Failure == "" && answers[0].Failure == ""
	}
	if !alike {
		return hashes
	}
	for i, a := range answers {
		c.at = i
		c.fieldsOf("header ", a.Fields)
		c.fieldsOf("trailer ", a.Trailers)
	}
	return c.bodies(answers)
}

// failureShape is one class for every answer that is no error, and one for each way to fail.
func failureShape(a *Answer) Shape {
	switch {
	case a.Failure != "":
		return Broken
	case a.Status >= 500:
		return ServerError
	}
	return Successful
}

// maxHeaders bounds the header fields of an answer that are compared.
const maxHeaders = 128

// fieldsOf adds header or trailer fields. Several with one name are a multiset.
func (c *comparison) fieldsOf(prefix string, fields []Field) {
	for _, f := range fields[:min(len(fields), maxHeaders)] {
		if isUnseen(f.Name) {
			continue
		}
		name := strings.ToLower(f.Name)
		if !isName(name) {
			name = hole
		}
		c.put(leaf{path: c.paths.sub(rootPath, prefix+name), shape: textShape(f.Value), value: mix(xxhash.Sum64String(strings.ToLower(f.Name)), xxhash.Sum64String(f.Value))})
	}
}

// pair brings the fields of the three answers together.
func (c *comparison) pair() {
	a := c.leaves
	for {
		next := pathID(-1)
		for i := range a {
			if len(a[i]) > 0 && (next < 0 || a[i][0].path < next) {
				next = a[i][0].path
			}
		}
		if next < 0 {
			break
		}
		three := [3]leaf{}
		for i := range a {
			three[i].shape = Absent
			if len(a[i]) > 0 && a[i][0].path == next {
				three[i], a[i] = a[i][0], a[i][1:]
			}
		}
		r := fieldResult{
			path: next, hash: c.paths.hashes[next], value: equalities(three[0].value, three[1].value, three[2].value),
			shape: equalities(three[0].shape, three[1].shape, three[2].shape), shapes: [3]Shape{three[0].shape, three[1].shape, three[2].shape},
		}
		if c.paths.list[next].key == orderKind {
			r.value, r.shape = orders(&three), allEqual
		} else {
			r.value &= r.shape // an absent field equals none
		}
		c.out.fields = append(c.out.fields, r)
	}
	c.withoutParts()
	c.dismiss()
	slices.SortFunc(c.out.fields, func(a, b fieldResult) int { return cmp.Compare(a.hash, b.hash) })
}

// withoutParts removes the fields that an answer lacks because it lacks the object around them: that is one finding.
func (c *comparison) withoutParts() {
	c.absent = append(c.absent[:0], make([]uint8, len(c.paths.list))...)
	for i := range c.out.fields {
		r := &c.out.fields[i]
		for j, shape := range r.shapes {
			if shape == Absent {
				c.absent[r.path] |= 1 << j
			}
		}
	}
	c.out.fields = slices.DeleteFunc(c.out.fields, func(r fieldResult) bool {
		mask := c.absent[r.path]
		return mask != 0 && mask == c.absent[c.paths.list[r.path].parent]
	})
}

// orders compares orders: those of different elements are no matter of order.
func orders(three *[3]leaf) (e equality) {
	same := func(a, b *leaf) bool { return a.value == b.value || a.aux != b.aux || a.shape != b.shape }
	for _, p := range []struct {
		a, b int
		bit  equality
	}{{0, 1, primaryVariant}, {0, 2, primaryControl}, {1, 2, variantControl}} {
		if same(&three[p.a], &three[p.b]) {
			e |= p.bit
		}
	}
	return e
}

// dismiss makes ignored differences equal.
func (c *comparison) dismiss() {
	if len(c.ignore) == 0 {
		return
	}
	kept := c.out.fields[:0]
	for _, r := range c.out.fields {
		i := ignoredOf(c.ignore, c.paths.name(r.path))
		missing := (r.shapes[0]|r.shapes[1]|r.shapes[2])&Absent != 0
		if i.all || i.presence && missing {
			continue
		}
		if i.kind && !missing && r.shape != allEqual {
			r.shape, r.value = allEqual, allEqual
		}
		if i.value {
			r.value = r.shape
		}
		kept = append(kept, r)
	}
	c.out.fields = kept
}

// together adds a field for bodies that differ in no field of their own: the same prices on other articles.
func (c *comparison) together(hashes [3]uint64) {
	e := equalities(hashes[0], hashes[1], hashes[2])
	body := c.paths.sub(rootPath, "body")
	inBody := func(i Ignore) bool { return strings.HasPrefix(i.field, "body") }
	if slices.ContainsFunc(c.ignore, inBody) {
		return // an ignored field would be the difference
	}
	for _, r := range c.out.fields {
		if c.below(r.path, body) && c.paths.list[r.path].key != orderKind {
			e |= allEqual &^ r.value
		}
	}
	if e == allEqual {
		return
	}
	at := c.paths.sub(body, elementsKind)
	c.out.fields = append(c.out.fields, fieldResult{path: at, hash: c.paths.hashes[at], value: e, shape: allEqual, shapes: [3]Shape{Order, Order, Order}})
}

// below reports whether a path is above or below it.
func (c *comparison) below(id, above pathID) bool {
	for ; id != rootPath; id = c.paths.list[id].parent {
		if id == above {
			return true
		}
	}
	return false
}
