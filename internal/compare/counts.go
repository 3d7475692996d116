// Package compare judges whether a variant answers as its primary does. It takes the answers to one request, two
// or three of them, counts by field which of them was the odd one, and turns the counts into verdicts that hold
// however often somebody reads them. It is pure: it has no I/O and reads no clock, so that a simulation can run it.
package compare

// Why this file exists: all statistics rest on five counters, and on adding them up over replicas without loss.

// Counts are the outcomes of the triples of one field, or of whole answers. Sums over replicas lose nothing.
type Counts struct {
	// Agree counts three equal answers.
	Agree uint64 `json:"agree"`
	// OnlyVariant counts triples whose variant was the odd one: it differs, while primary and control are equal.
	OnlyVariant uint64 `json:"onlyVariant"`
	// OnlyControl counts triples whose control was the odd one.
	OnlyControl uint64 `json:"onlyControl"`
	// BothEqual counts triples whose primary was the odd one: mirroring itself made the difference, or noise.
	BothEqual uint64 `json:"bothEqual"`
	// BothUnequal counts triples without two equal answers.
	BothUnequal uint64 `json:"bothUnequal"`
}

// Total returns the number of triples.
func (c *Counts) Total() uint64 {
	return c.Agree + c.OnlyVariant + c.OnlyControl + c.BothEqual + c.BothUnequal
}

// Merge adds the counts of another replica.
func (c *Counts) Merge(o *Counts) {
	c.Agree += o.Agree
	c.OnlyVariant += o.OnlyVariant
	c.OnlyControl += o.OnlyControl
	c.BothEqual += o.BothEqual
	c.BothUnequal += o.BothUnequal
}

// fewOdd is the number of outcomes below which they say nothing about a field.
const fewOdd = 3

// noisy reports whether a fifth of present triples or more had no two equal answers.
func (c *Counts) noisy(present uint64) bool {
	return c.BothUnequal >= fewOdd && 5*c.BothUnequal >= present
}

// copied reports whether mirroring itself seems to make the difference: the two copies agree against the primary in a
// fifth of present triples or more, and always more often than either is the odd one.
func (c *Counts) copied(present uint64) bool {
	return c.BothEqual >= fewOdd && 5*c.BothEqual >= present && c.BothEqual >= 4*(c.OnlyVariant+c.OnlyControl+c.BothUnequal)
}

// equality says which of three answers are equal, in pairs. It need not be transitive: an order of elements is
// compared only where the elements are equal.
type equality uint8

const (
	primaryVariant equality = 1 << iota
	primaryControl
	variantControl
	allEqual = primaryVariant | primaryControl | variantControl
)

// equalities compares three values.
func equalities[T comparable](p, v, c T) (e equality) {
	if p == v {
		e |= primaryVariant
	}
	if p == c {
		e |= primaryControl
	}
	if v == c {
		e |= variantControl
	}
	return e
}

// outcome is one of the five counters.
type outcome uint8

const (
	agree outcome = iota
	onlyVariant
	onlyControl
	bothEqual
	bothUnequal
)

// outcome returns the counter of a triple. It treats variant and control alike, which all statistics rely on.
func (e equality) outcome() outcome {
	switch e {
	case allEqual:
		return agree
	case primaryControl:
		return onlyVariant
	case primaryVariant:
		return onlyControl
	case variantControl:
		return bothEqual
	}
	return bothUnequal
}

func (c *Counts) add(o outcome) {
	switch o {
	case agree:
		c.Agree++
	case onlyVariant:
		c.OnlyVariant++
	case onlyControl:
		c.OnlyControl++
	case bothEqual:
		c.BothEqual++
	case bothUnequal:
		c.BothUnequal++
	}
}
