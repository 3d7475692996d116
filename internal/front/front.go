// Package front is what the cluster says about Services and the proxies in front of them: the model of
// the data plane, and the proxy pods. The webhook of Services and the controller see the same.
package front

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Name is the name of a Service with its namespace.
type Name = dataplane.Name

// State is what is known. It is safe for concurrent use.
type State struct {
	index *dataplane.Index
	// synced says whether the index knows everything.
	synced func() bool

	mu          sync.RWMutex
	pods        map[Name]map[string]pod // by parent and name
	parents     map[Name]Name           // by pod
	feed        *feed.Feed
	subscribers []func(parent Name)
}

// pod is what matters of a proxy pod.
type pod struct {
	intercept.Proxy
	// serves is set while it is ready and not ending.
	serves bool
}

// New returns a State over an index; synced says when that knows everything.
func New(index *dataplane.Index, synced func() bool) *State {
	return &State{index: index, synced: synced, pods: map[Name]map[string]pod{}, parents: map[Name]Name{}}
}

// Subscribe registers a function that is told of the parent of every pod that changes. It must not
// block.
func (s *State) Subscribe(fn func(parent Name)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers = append(s.subscribers, fn)
}

// Start feeds the pods from an API server until ctx ends.
func (s *State) Start(ctx context.Context, config *rest.Config, log logr.Logger) error {
	client, err := feed.NewClient(config, corev1.AddToScheme)
	if err != nil {
		return err
	}
	defer client.Close()
	pods := &feed.Typed{
		Resource:  feed.Resource{GroupVersionResource: corev1.SchemeGroupVersion.WithResource("pods"), Client: client},
		NewObject: func() runtime.Object { return &corev1.Pod{} },
		NewList:   func() runtime.Object { return &corev1.PodList{} },
		Convert:   func(object any) any { return read(object.(*corev1.Pod)) },
	}
	f := feed.Start(ctx, log, "proxies", proxiesOnly{pods}, "", s.sink())
	s.mu.Lock()
	s.feed = f
	s.mu.Unlock()
	<-ctx.Done()
	f.End()
	return nil
}

// proxiesOnly selects the pods of proxies.
type proxiesOnly struct{ feed.Source }

func (p proxiesOnly) List(ctx context.Context, namespace string, opts metav1.ListOptions) (*feed.List, error) {
	opts.LabelSelector = wellknown.ParentLabel
	return p.Source.List(ctx, namespace, opts)
}

func (p proxiesOnly) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	opts.LabelSelector = wellknown.ParentLabel
	return p.Source.Watch(ctx, namespace, opts)
}

// read makes a record of a pod.
func read(o *corev1.Pod) *pod {
	p := &pod{Proxy: intercept.Proxy{Labels: o.Labels, Serves: intercept.ParseServes(o.Annotations[wellknown.ServesAnnotation])}}
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.PodReady {
			p.serves = c.Status == corev1.ConditionTrue && o.DeletionTimestamp == nil
		}
	}
	return p
}

func (s *State) sink() feed.Sink {
	set := func(it *feed.Item) { s.put(Name{Namespace: it.Namespace, Name: it.Name}, it.Record.(*pod)) }
	return feed.Sink{
		Set:    set,
		Remove: func(it *feed.Item) { s.put(Name{Namespace: it.Namespace, Name: it.Name}, nil) },
		Replace: func(items []*feed.Item) {
			keep := map[Name]bool{}
			for _, it := range items {
				keep[Name{Namespace: it.Namespace, Name: it.Name}] = true
			}
			s.mu.RLock()
			var gone []Name
			for name := range s.parents {
				if !keep[name] {
					gone = append(gone, name)
				}
			}
			s.mu.RUnlock()
			for _, name := range gone {
				s.put(name, nil)
			}
			for _, it := range items {
				set(it)
			}
		},
	}
}

// Put sets a pod, or removes it when it is nil. Tests without an API server call it.
func (s *State) Put(name Name, o *corev1.Pod) {
	if o == nil {
		s.put(name, nil)
		return
	}
	s.put(name, read(o))
}

func (s *State) put(name Name, p *pod) {
	s.mu.Lock()
	parent, known := s.parents[name]
	if known {
		delete(s.pods[parent], name.Name)
		if len(s.pods[parent]) == 0 {
			delete(s.pods, parent)
		}
		delete(s.parents, name)
	}
	if p != nil {
		parent = Name{Namespace: name.Namespace, Name: p.Labels[wellknown.ParentLabel]}
		s.parents[name] = parent
		if s.pods[parent] == nil {
			s.pods[parent] = map[string]pod{}
		}
		s.pods[parent][name.Name] = *p
	}
	subscribers := s.subscribers
	s.mu.Unlock()
	if known || p != nil {
		for _, fn := range subscribers {
			fn(parent)
		}
	}
}

// Synced says whether everything is known that was there at the start.
func (s *State) Synced() bool {
	s.mu.RLock()
	f := s.feed
	s.mu.RUnlock()
	return f != nil && f.Synced() && s.synced()
}

// View says what concerns a Service as it would be stored. It fails while not everything is known.
func (s *State) View(o *corev1.Service) (intercept.View, error) {
	if !s.Synced() {
		return intercept.View{}, intercept.ErrNotSynced
	}
	return s.Look(o), nil
}

// Look is View by what is known so far.
func (s *State) Look(o *corev1.Service) intercept.View {
	name := Name{Namespace: o.Namespace, Name: o.Name}
	f := s.index.Front(name)
	v := intercept.View{Wanted: intercept.Wants(o, f.Namespace, f.Routed)}
	if f.Primary != nil {
		v.Primary = intercept.Stored(f.Primary.Selector, f.Primary.Recorded)
	}
	if f.Origin != nil {
		v.Origin = f.Origin.Selector
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.pods[name] {
		if p.serves {
			v.Proxies = append(v.Proxies, p.Proxy)
		}
	}
	return v
}

// Pods is how many pods of proxies a Service has, in whatever state.
func (s *State) Pods(parent Name) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.pods[parent])
}

// Front is what the index says about a Service.
func (s *State) Front(parent Name) dataplane.Front { return s.index.Front(parent) }

// Names are the Services that there is something to say about.
func (s *State) Names() []Name {
	found := s.index.Fronts()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for parent := range s.pods {
		found = append(found, parent) // the queue knows each once
	}
	return found
}
