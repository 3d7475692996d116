package events

import "sync"

// News remembers the latest text for each subject, so that a reconciler that finds the same every time
// reports it once. The zero value is ready for use, also concurrently.
type News[K comparable] struct {
	mu     sync.Mutex
	latest map[K]string
}

// Is reports whether a text differs from the latest one for its subject, which it becomes.
func (n *News[K]) Is(subject K, text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if before, ok := n.latest[subject]; ok && before == text {
		return false
	}
	if n.latest == nil {
		n.latest = map[K]string{}
	}
	n.latest[subject] = text
	return true
}

// Forget makes the next text for each of these subjects news.
func (n *News[K]) Forget(subjects ...K) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, subject := range subjects {
		delete(n.latest, subject)
	}
}

// Clear forgets all subjects.
func (n *News[K]) Clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.latest)
}
