package variant

// From a feed into the Index.

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/feed"
)

// sinkOf writes the objects of a kind into the Index.
func (i *Index) sinkOf(kind Kind) feed.Sink {
	remove := func(it *feed.Item) {
		i.update(func(a *affected) {
			i.remove(kind, types.NamespacedName{Namespace: it.Namespace, Name: it.Name}, a)
		})
	}
	return feed.Sink{
		Remove: remove,
		Set: func(it *feed.Item) {
			rec, ok := it.Record.(record)
			if !ok {
				remove(it)
				return
			}
			i.update(func(a *affected) { i.put(rec, a) })
		},
		Replace: func(items []*feed.Item) {
			records := make([]record, 0, len(items))
			for _, it := range items {
				if rec, ok := it.Record.(record); ok {
					records = append(records, rec)
				}
			}
			i.replace(kind, records)
		},
	}
}
