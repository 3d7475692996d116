package report

// The section Mirrors on the leader: what all proxies of a Service counted for a mirror, since this replica leads.

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"
)

// maxMirrors bounds the mirrors in one report.
const maxMirrors = 4096

// Key names the copies of a rule's mirrors to one target.
type Key struct{ Namespace, Route, Rule, Target string }

// Sum is what was counted for a Key. It only grows while the key is reported at all.
type Sum struct {
	OK, Failed, Dropped uint64
	// ByKind are the failures by kind.
	ByKind map[string]uint64
}

// Answered is the number of copies that were sent.
func (s *Sum) Answered() uint64 { return s.OK + s.Failed }

// Counters is the Section of Mirrors. The zero value is not valid; see NewCounters.
type Counters struct {
	mu        sync.Mutex
	sums      map[Key]*entry
	processes map[Source]map[Key]Mirror
	// routes are the keys of a route, so that a question about one does not read all.
	routes map[routeKey]map[Key]struct{}
}

type routeKey struct{ namespace, route string }

// entry is a sum, and the number of processes that report it.
type entry struct {
	Sum
	reporters int
}

// NewCounters returns the Section of Mirrors.
func NewCounters() *Counters {
	c := &Counters{}
	c.Forget()
	return c
}

// Forget implements Section.
func (c *Counters) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sums, c.processes, c.routes = map[Key]*entry{}, map[Source]map[Key]Mirror{}, map[routeKey]map[Key]struct{}{}
}

// Report implements Section.
func (c *Counters) Report(from Source, section json.RawMessage) error {
	var list []Mirror
	if err := json.Unmarshal(section, &list); err != nil {
		return fmt.Errorf("must be a list of mirrors: %w", err)
	}
	if len(list) > maxMirrors {
		return fmt.Errorf("has %d mirrors; at most %d", len(list), maxMirrors)
	}
	now := make(map[Key]Mirror, len(list))
	for i := range list {
		m := &list[i]
		if len(m.Failed) > 16 || len(m.Dropped) > 64 {
			return fmt.Errorf("[%d]: has %d kinds of failures and %d reasons of drops; at most 16 and 64", i, len(m.Failed), len(m.Dropped))
		}
		key := Key{from.Namespace, m.Route, m.Rule, m.Target}
		if other, ok := now[key]; ok {
			m.add(&other)
		}
		now[key] = *m
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before, again := c.processes[from]
	for key, m := range now {
		base, known := before[key]
		e := c.enter(key, known)
		switch {
		case known:
			e.grow(&m, &base)
		case again || from.Whole:
			e.grow(&m, &Mirror{}) // everything was counted in this leader's time
		}
	}
	for key := range before {
		if _, ok := now[key]; !ok {
			c.leave(key)
		}
	}
	c.processes[from] = now
	return nil
}

// Gone implements Section. What the process counted stays in the sums.
func (c *Counters) Gone(from Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.processes[from] {
		c.leave(key)
	}
	delete(c.processes, from)
}

// Of returns the sums for the mirrors of a route, like HTTPRoute/web.
func (c *Counters) Of(namespace, route string) map[Key]Sum {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[Key]Sum{}
	for key := range c.routes[routeKey{namespace, route}] {
		sum := c.sums[key].Sum
		sum.ByKind = maps.Clone(sum.ByKind)
		out[key] = sum
	}
	return out
}

// enter returns the entry of a key that a process reports, for the first time unless it is known.
func (c *Counters) enter(key Key, known bool) *entry {
	e := c.sums[key]
	if e == nil {
		e = &entry{}
		c.sums[key] = e
		at := routeKey{key.Namespace, key.Route}
		if c.routes[at] == nil {
			c.routes[at] = map[Key]struct{}{}
		}
		c.routes[at][key] = struct{}{}
	}
	if !known {
		e.reporters++
	}
	return e
}

// leave notes that one process fewer reports a key. A key that nobody reports is forgotten.
func (c *Counters) leave(key Key) {
	e := c.sums[key]
	if e.reporters--; e.reporters > 0 {
		return
	}
	delete(c.sums, key)
	at := routeKey{key.Namespace, key.Route}
	if delete(c.routes[at], key); len(c.routes[at]) == 0 {
		delete(c.routes, at)
	}
}

// grow adds what a process counted since base. A counter that fell began anew: the mirror was away for a while.
func (e *entry) grow(now, base *Mirror) {
	since := func(now, base uint64) uint64 {
		if now < base {
			return now
		}
		return now - base
	}
	e.OK += since(now.OK, base.OK)
	for kind, n := range now.Failed {
		if n = since(n, base.Failed[kind]); n > 0 {
			if e.ByKind == nil {
				e.ByKind = map[string]uint64{}
			}
			if _, ok := e.ByKind[kind]; ok || len(e.ByKind) < 16 {
				e.ByKind[kind] += n
			}
			e.Failed += n
		}
	}
	for reason, n := range now.Dropped {
		e.Dropped += since(n, base.Dropped[reason])
	}
}

// add adds the counters of another entry of the same report.
func (m *Mirror) add(other *Mirror) {
	m.OK += other.OK
	for _, pair := range []struct {
		into *map[string]uint64
		from map[string]uint64
	}{{&m.Failed, other.Failed}, {&m.Dropped, other.Dropped}} {
		sum := maps.Clone(pair.from)
		for name, n := range *pair.into {
			if sum == nil {
				sum = map[string]uint64{}
			}
			sum[name] += n
		}
		*pair.into = sum
	}
}
