package events

import "sync"

// News remembers the latest text for each subject, so that a reconciler that finds the same every time
// reports it once. The zero value is ready for use, also concurrently.
type News[K comparable] struct {
	latest sync.Map // texts by subject
}

// Is reports whether a text differs from the latest one for its subject, which it becomes.
func (n *News[K]) Is(subject K, text string) bool {
	before, ok := n.latest.Swap(subject, text)
	return !ok || before != text
}

// Forget makes the next text for each of these subjects news.
func (n *News[K]) Forget(subjects ...K) {
	for _, subject := range subjects {
		n.latest.Delete(subject)
	}
}

// Clear forgets all subjects.
func (n *News[K]) Clear() { n.latest.Clear() }
