package compare

// Why this file exists: a slower variant is worth a word, but machines drift, so that latency never decides.

import "time"

// Latency compares the latencies of variant and control. Merging is associative and commutative.
type Latency struct {
	// Slower has the blocks of triples in which one of the two was slower by a quarter and 2 ms.
	Slower Blocks `json:"slower"`
	// Ratios counts triples by the variant's latency divided by the control's.
	Ratios [len(ratioBounds) + 1]uint64 `json:"ratios"`
}

var ratioBounds = [...]float64{.25, .4, .5, .67, .8, .9, 1, 1.1, 1.25, 1.5, 2, 2.5, 4}

func (l *Latency) add(variant, control time.Duration, block int64) {
	if variant <= 0 || control <= 0 {
		return
	}
	const slack = 2 * time.Millisecond
	switch {
	case variant > control+control/4+slack:
		l.Slower.add(block, true)
	case control > variant+variant/4+slack:
		l.Slower.add(block, false)
	}
	ratio, i := float64(variant)/float64(control), 0
	for i < len(ratioBounds) && ratio > ratioBounds[i] {
		i++
	}
	l.Ratios[i]++
}

// Merge adds the latencies of another replica.
func (l *Latency) Merge(o *Latency) {
	l.Slower.Merge(&o.Slower)
	for i, n := range o.Ratios {
		l.Ratios[i] += n
	}
}

// ratio returns the least ratio of the class that the median triple is in.
func (l *Latency) ratio() float64 {
	sum, below := uint64(0), uint64(0)
	for _, n := range l.Ratios {
		sum += n
	}
	for i, n := range l.Ratios {
		if below += n; i > 0 && 2*below > sum {
			return ratioBounds[i-1]
		}
	}
	return 0
}

// slower returns about how many times slower the variant is, and whether that is worth a word.
func (l *Latency) slower() (times float64, so bool) {
	variant, control := l.Slower.units()
	times = l.ratio()
	return times, times >= 1.5 && logEDifferent(variant, control, nullSlower) >= logThreshold(1)
}
