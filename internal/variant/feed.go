package variant

// From a feed into the Index.

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/feed"
)

// sinkOf returns the sink that writes the objects of a kind into the Index. An object without a record is
// removed.
func (i *Index) sinkOf(kind Kind) feed.Sink {
	known := func() []types.NamespacedName {
		i.mu.RLock()
		defer i.mu.RUnlock()
		return slices.Collect(maps.Keys(i.objects[kind]))
	}
	return feed.NewSink(known, func(set []*feed.Item, gone []types.NamespacedName) {
		i.update(func(t *touched) {
			for _, it := range set {
				if rec, ok := it.Record.(record); ok {
					i.put(rec, t)
				} else {
					i.remove(kind, types.NamespacedName{Namespace: it.Namespace, Name: it.Name}, t)
				}
			}
			for _, name := range gone {
				i.remove(kind, name, t)
			}
		})
	})
}
