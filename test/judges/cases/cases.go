// Package cases asks the judges about random clusters, and shows the smallest one on which a judge fails.
package cases

import (
	"flag"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
)

var (
	// Count is the number of random clusters of each question.
	Count = flag.Int("cases", 100, "the number of random clusters of each question")

	first = flag.Uint64("seed", 1, "the seed of the first cluster; with -cases 1 it is judged again alone")
	tries = flag.Int("shrink", 1000, "how many smaller clusters are tried after a failure")
	most  = flag.Int("failures", 3, "after how many failures a question ends")
)

// Question is asked about each random cluster.
type Question struct {
	// Random returns the cluster of a seed.
	Random func(seed uint64) clusters.Cluster
	// Judge returns what is wrong with a cluster.
	Judge func(t *testing.T, c clusters.Cluster) []string
	// Whole reports whether a smaller cluster may be judged.
	Whole func(c clusters.Cluster) bool
}

// Ask judges Count random clusters.
func (q Question) Ask(t *testing.T) {
	t.Helper()
	failures := 0
	for seed := range Seeds() {
		c := q.Random(seed)
		if len(q.Judge(t, c)) == 0 {
			continue
		}
		c = clusters.Shrink(c, *tries, func(c clusters.Cluster) bool { return q.Whole(c) && len(q.Judge(t, c)) > 0 })
		t.Errorf("-seed %d: %s\n%s", seed, strings.Join(q.Judge(t, c), "\n"), Show(c))
		if failures++; failures == *most {
			break
		}
	}
	t.Logf("%d clusters from seed %d", *Count, *first)
}

// Seeds yields the seeds of the random clusters.
func Seeds() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for seed := *first; seed < *first+uint64(*Count) && yield(seed); seed++ {
		}
	}
}

// Show returns a cluster in the form of a known one.
func Show(c clusters.Cluster) string {
	return fmt.Sprintf("-- cluster.yaml --\n%s-- routes.yaml --\n%s", clusters.Text(c.Objects), clusters.Text(c.Routes))
}
