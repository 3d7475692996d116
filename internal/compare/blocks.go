package compare

// Why this file exists: requests depend on each other, by caches, loops and configuration. A block of time, in which
// everything may depend on everything, is worth one unit of evidence, however many requests it has.

import (
	"cmp"
	"slices"
)

// maxBlocks bounds the blocks of one test. Past it neighbours merge, and a block lasts twice as long.
const maxBlocks = 64

// Block has the discordant triples of one block of time.
type Block struct {
	Index       int64  `json:"index"`
	OnlyVariant uint32 `json:"onlyVariant"`
	OnlyControl uint32 `json:"onlyControl"`
}

// Blocks are the blocks of one test, by ascending index. Merging is associative and commutative: the result has the
// least doublings with which the blocks of all parts fit.
type Blocks struct {
	// Doublings is how often blocks were merged with their neighbours.
	Doublings uint8   `json:"doublings"`
	List      []Block `json:"list"`
}

// add counts one discordant triple in a block that has not been doubled.
func (b *Blocks) add(index int64, variant bool) {
	one := Block{Index: index >> b.Doublings, OnlyControl: 1}
	if variant {
		one.OnlyVariant, one.OnlyControl = 1, 0
	}
	b.put(one)
	b.fit()
}

func (b *Blocks) put(one Block) {
	at, found := slices.BinarySearchFunc(b.List, one.Index, func(x Block, index int64) int { return cmp.Compare(x.Index, index) })
	if !found {
		b.List = slices.Insert(b.List, at, one)
		return
	}
	b.List[at].OnlyVariant += one.OnlyVariant
	b.List[at].OnlyControl += one.OnlyControl
}

// fit merges neighbours until there are at most maxBlocks.
func (b *Blocks) fit() {
	for len(b.List) > maxBlocks {
		b.double()
	}
}

func (b *Blocks) double() {
	b.Doublings++
	kept := b.List[:0]
	for _, x := range b.List {
		x.Index >>= 1
		if n := len(kept); n > 0 && kept[n-1].Index == x.Index {
			kept[n-1].OnlyVariant += x.OnlyVariant
			kept[n-1].OnlyControl += x.OnlyControl
		} else {
			kept = append(kept, x)
		}
	}
	b.List = kept
}

// Merge adds the blocks of another replica.
func (b *Blocks) Merge(o *Blocks) {
	for b.Doublings < o.Doublings {
		b.double()
	}
	for _, x := range o.List {
		x.Index >>= b.Doublings - o.Doublings
		b.put(x)
	}
	b.fit()
}

// units returns the evidence: every block is worth one in all, shared by which of the two was the odd one.
func (b *Blocks) units() (variant, control float64) {
	for _, x := range b.List {
		v, c := float64(x.OnlyVariant), float64(x.OnlyControl)
		if v+c == 0 {
			continue // another replica's mistake must not become NaN
		}
		variant += v / (v + c)
		control += c / (v + c)
	}
	return variant, control
}
