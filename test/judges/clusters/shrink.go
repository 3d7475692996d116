package clusters

import (
	"maps"
	"slices"
	"strings"
)

// Shrink returns the smallest cluster that it finds by leaving parts out for which fails still reports true.
// It calls fails at most tries times.
func Shrink(c Cluster, tries int, fails func(Cluster) bool) Cluster {
	s := &shrinker{fails: fails, tries: tries, best: c}
	for smaller := true; smaller && s.tries > 0; {
		smaller = s.drop(func(c *Cluster) *[]Object { return &c.Objects })
		smaller = s.drop(func(c *Cluster) *[]Object { return &c.Routes }) || smaller
		smaller = s.fields(func(c *Cluster) []Object { return c.Routes }) || smaller
		smaller = s.fields(func(c *Cluster) []Object { return c.Objects }) || smaller
	}
	return s.best
}

type shrinker struct {
	fails func(Cluster) bool
	tries int
	best  Cluster
}

// try makes a cluster the best one if it still fails.
func (s *shrinker) try(c Cluster) bool {
	if s.tries--; s.tries < 0 || !s.fails(c) {
		return false
	}
	s.best = c
	return true
}

// drop leaves out whole objects.
func (s *shrinker) drop(list func(*Cluster) *[]Object) (smaller bool) {
	for i := range slices.Backward(*list(&s.best)) {
		c := s.best.clone()
		l := list(&c)
		*l = slices.Delete(*l, i, i+1)
		smaller = s.try(c) || smaller
	}
	return smaller
}

// fields leaves out fields and elements below spec. Kubernetes's own objects stay as they are: no API server would
// accept many of the smaller ones.
func (s *shrinker) fields(list func(*Cluster) []Object) (smaller bool) {
	for i, o := range list(&s.best) {
		if version, _ := o["apiVersion"].(string); !strings.Contains(version, "istio.io/") && !strings.Contains(version, "gateway.networking") {
			continue
		}
		for {
			tried := false
			for n := 0; ; n++ {
				c := s.best.clone()
				spec, _ := list(&c)[i]["spec"].(Object)
				at := n
				if !remove(spec, &at) {
					break
				}
				if tried = s.try(c); tried {
					break
				}
			}
			if !tried || s.tries <= 0 {
				break
			}
			smaller = true
		}
	}
	return smaller
}

// remove removes the nth field or element below a value, counted from the outside, and reports whether there
// is one. It stores a shortened list in its parent.
func remove(v any, n *int) bool {
	_, found := without(v, n)
	return found
}

func without(v any, n *int) (any, bool) {
	switch v := v.(type) {
	case Object:
		keys := slices.Sorted(maps.Keys(v))
		if *n < len(keys) {
			delete(v, keys[*n])
			return v, true
		}
		*n -= len(keys)
		for _, k := range keys {
			if inner, found := without(v[k], n); found {
				v[k] = inner
				return v, true
			}
		}
	case []any:
		if *n < len(v) {
			return slices.Delete(v, *n, *n+1), true
		}
		*n -= len(v)
		for i := range v {
			if inner, found := without(v[i], n); found {
				v[i] = inner
				return v, true
			}
		}
	}
	return v, false
}
