package variant

// Ready pods of variants and primaries, by which a MirrorLimit's maxLoad bounds mirrors. A number that changes counts after
// a hold, so that a rollout does not move mirrors with every pod.

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	// loadHold is the time after which a number of ready pods counts that has changed.
	loadHold = 30 * time.Second
	// maxHeldCounts is the number of subsets of a Service whose pods are counted. A tenant may make any number.
	maxHeldCounts = 64
)

// heldCount is the number of ready pods of a Service, or of a subset of it. It begins with the first decision that asks,
// and ends with the Service.
type heldCount struct {
	labels labels // of the subset
	// held counts now. It becomes latest loadHold after since, when both began to differ; since is zero while they do not.
	held, latest int
	since        time.Time
	// routes are the stored routes whose shares depend on it.
	routes map[route.Key]bool
}

// note takes the number of ready pods at a time.
func (c *heldCount) note(ready int, at time.Time) {
	c.advance(at)
	c.latest = ready
	switch {
	case c.latest == c.held:
		c.since = time.Time{}
	case c.since.IsZero():
		c.since = at
	}
}

// advance lets the latest number count if its time has come, and returns how long that takes otherwise, 0 for none.
func (c *heldCount) advance(now time.Time) time.Duration {
	if c.since.IsZero() {
		return 0
	}
	if left := loadHold - now.Sub(c.since); left > 0 {
		return left
	}
	c.held, c.since = c.latest, time.Time{}
	return 0
}

// countPodsOf returns the ready pods of a route's targets and backends, if a limit asks for them.
func (v *view) countPodsOf(rt *route.Route, scope *limits.Scope) {
	bounded := false
	for _, l := range scope.Limits {
		bounded = bounded || l.MaxLoad != nil
	}
	if !bounded {
		return
	}
	scope.Pods = map[route.Target]int{}
	count := func(t route.Target) {
		t = t.WithoutPort()
		if _, known := scope.Pods[t]; !known && t.IsService() {
			scope.Pods[t] = v.readyPods(rt, t)
			v.letOthers(len(scope.Pods))
		}
	}
	for i := range rt.Rules {
		if len(rt.Rules[i].Mirrors) == 0 {
			continue
		}
		for _, b := range rt.Rules[i].Backends {
			count(b.Target)
		}
		for k := range rt.Rules[i].Mirrors {
			count(rt.Rules[i].Mirrors[k].Target)
		}
	}
}

// readyPods returns the number of ready pods of a target, 0 where it is not known. Of a subset that clients find in
// different ways, the largest counts, as any client can make a mirror ready.
func (v *view) readyPods(rt *route.Route, t route.Target) int {
	name := types.NamespacedName(t.Service())
	s := v.service(name)
	if s == nil || s.externalName {
		return 0
	}
	if origin := (types.NamespacedName{Namespace: name.Namespace, Name: wellknown.OriginName(name.Name)}); v.base.objects[KindService][origin] != nil {
		name = origin // proxies are behind the Service itself
	}
	if t.Subset == "" {
		return v.heldPods(rt, name, nil)
	}
	most := 0
	for _, subset := range v.subset(v.clients, rt.Namespace, s.Namespace, v.base.fqdn(route.ServiceName(s.NamespacedName)), t.Subset).found {
		most = max(most, v.heldPods(rt, name, subset))
	}
	return most
}

// heldPods returns the number of ready pods of a Service with some labels that counts now, and notes in recheck when
// another does.
func (v *view) heldPods(rt *route.Route, service types.NamespacedName, subset labels) int {
	i := v.base
	if i.objects[KindService][service] == nil { // read live, before its event
		return v.source(slicesQuery(service)).countReady(service, subset)
	}
	i.scopes.mu.Lock()
	defer i.scopes.mu.Unlock()
	key := subset.String()
	counts := i.scopes.counts[service]
	c := counts[key]
	if c == nil {
		if counts == nil || len(counts) >= maxHeldCounts {
			counts = map[string]*heldCount{}
			if i.scopes.counts == nil {
				i.scopes.counts = map[types.NamespacedName]map[string]*heldCount{}
			}
			i.scopes.counts[service] = counts
		}
		ready := i.countReady(service, subset)
		c = &heldCount{labels: subset, held: ready, latest: ready, routes: map[route.Key]bool{}}
		counts[key] = c
	}
	if kind, known := kindOf(rt.Kind.Group(), string(rt.Kind)); known && i.objects[kind][types.NamespacedName{Namespace: rt.Namespace, Name: rt.Name}] != nil {
		c.routes[rt.Key] = true
	}
	if left := c.advance(i.opts.Clock.Now()); left > 0 && (v.recheck == 0 || left < v.recheck) {
		v.recheck = left
	}
	return c.held
}

// countReady returns the number of ready pods of a Service that have some labels. A Service of two address families has
// each pod twice.
func (i *Index) countReady(service types.NamespacedName, subset labels) int {
	e := i.endpoints[service]
	if e == nil {
		return 0
	}
	var ready [families]int
	for _, s := range e.slices {
		if len(subset) == 0 {
			ready[s.family] += len(s.ready) + int(s.anonymous)
			continue
		}
		for _, pod := range s.ready {
			if have, known := i.podLabels(types.NamespacedName{Namespace: service.Namespace, Name: pod}); known && have.contain(subset) {
				ready[s.family]++
			}
		}
	}
	most := 0
	for _, n := range ready {
		most = max(most, n)
	}
	return most
}

// recount counts the ready pods of a Service again, and affects the routes whose shares depend on them.
func (i *Index) recount(service types.NamespacedName, a *affected) {
	i.scopes.mu.Lock()
	defer i.scopes.mu.Unlock()
	for _, c := range i.scopes.counts[service] {
		ready := i.countReady(service, c.labels)
		if ready == c.latest {
			continue
		}
		c.note(ready, i.opts.Clock.Now())
		for key := range c.routes {
			kind, _ := kindOf(key.Kind.Group(), string(key.Kind))
			if i.objects[kind][types.NamespacedName{Namespace: key.Namespace, Name: key.Name}] == nil {
				delete(c.routes, key)
				continue
			}
			a.addRoute(key)
		}
	}
}

// forgetCounts ends the counts of a Service.
func (i *Index) forgetCounts(service types.NamespacedName) {
	i.scopes.mu.Lock()
	defer i.scopes.mu.Unlock()
	delete(i.scopes.counts, service)
}
