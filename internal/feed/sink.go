package feed

// Sinks and consumers: where records go.

import "k8s.io/apimachinery/pkg/types"

// Sink receives the records of a feed, from one goroutine.
type Sink struct {
	Set     func(*Item)
	Remove  func(*Item)
	Replace func([]*Item)
}

// NewSink returns a Sink for a model that is changed by apply: it sets the records of items and removes the
// objects that are gone. known returns the objects that the model has; those that a list lacks are gone.
func NewSink(known func() []types.NamespacedName, apply func(set []*Item, gone []types.NamespacedName)) Sink {
	return Sink{
		Set:    func(it *Item) { apply([]*Item{it}, nil) },
		Remove: func(it *Item) { apply(nil, []types.NamespacedName{it.name()}) },
		Replace: func(items []*Item) {
			listed := make(map[types.NamespacedName]bool, len(items))
			for _, it := range items {
				listed[it.name()] = true
			}
			var gone []types.NamespacedName
			for _, name := range known() {
				if !listed[name] {
					gone = append(gone, name)
				}
			}
			apply(items, gone)
		},
	}
}

// Consumer makes records of a kind's objects and receives them.
type Consumer struct {
	// Convert makes a record of an object, of the types that Kind.Source names. It must not keep the object.
	Convert func(object any) any
	Sink
}

// Share returns a consumer that stands for several, so that the kind they all need is listed and watched
// once.
func Share(consumers ...Consumer) Consumer {
	if len(consumers) == 1 {
		return consumers[0]
	}
	each := func(do func(c *Consumer, own func(*Item) *Item)) {
		for n := range consumers {
			do(&consumers[n], func(it *Item) *Item {
				c := *it
				c.Record = it.Record.([]any)[n]
				return &c
			})
		}
	}
	return Consumer{
		Convert: func(object any) any {
			records := make([]any, len(consumers))
			for n := range consumers {
				records[n] = consumers[n].Convert(object)
			}
			return records
		},
		Sink: Sink{
			Set:    func(it *Item) { each(func(c *Consumer, own func(*Item) *Item) { c.Set(own(it)) }) },
			Remove: func(it *Item) { each(func(c *Consumer, own func(*Item) *Item) { c.Remove(own(it)) }) },
			Replace: func(items []*Item) {
				each(func(c *Consumer, own func(*Item) *Item) {
					list := make([]*Item, len(items))
					for i, it := range items {
						list[i] = own(it)
					}
					c.Replace(list)
				})
			},
		},
	}
}

// Shared lists and watches kinds for several consumers.
type Shared interface {
	// Attach adds a consumer of a kind. It must be called before anything is read.
	Attach(k *Kind, c Consumer)
	// HasSynced reports whether every consumer has received every object that there was at the start.
	HasSynced() bool
}
