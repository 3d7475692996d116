package compare

// Why this file exists: people want to see how a rate came about, and whether it still moves. Each endpoint keeps its
// rate and bounds at a few earlier times, over the whole epoch.

import "time"

const (
	// maxPoints bounds the history of an endpoint. Past it every other point goes, and points lie twice as far apart.
	maxPoints = 64
	// firstStep is the time between two points at first.
	firstStep = time.Second
)

// Point is the knowledge about whole answers of an endpoint at one time.
type Point struct {
	At time.Time `json:"at"`
	// Rate estimates the rate of true differences; Lower and Upper bound it.
	Rate  float64 `json:"rate"`
	Lower float64 `json:"lowerBound"`
	Upper float64 `json:"upperBound"`
}

// history has the points of all endpoints.
type history struct {
	step   time.Duration
	next   time.Time
	points map[Key][]Point
}

// note adds a point to each endpoint if it is time to.
func (h *history) note(now time.Time, t *Totals) {
	if now.Before(h.next) {
		return
	}
	if h.points == nil {
		h.points, h.step = map[Key][]Point{}, firstStep
	}
	full := false
	for key, e := range t.Endpoints {
		h.points[key] = append(h.points[key], e.point(now))
		full = full || len(h.points[key]) >= maxPoints
	}
	for key, list := range h.points {
		if t.Endpoints[key] == nil {
			delete(h.points, key) // its template has become another
		} else if full {
			h.points[key] = everyOther(list)
		}
	}
	if full {
		h.step *= 2
	}
	h.next = now.Add(h.step)
}

// everyOther keeps the last point, and every other one before it.
func everyOther(list []Point) []Point {
	kept := list[:0]
	for i, p := range list {
		if (len(list)-1-i)%2 == 0 {
			kept = append(kept, p)
		}
	}
	return kept
}

// of returns the points of an endpoint, the present one last.
func (h *history) of(key Key, present Point) []Point {
	list := h.points[key]
	return append(append(make([]Point, 0, len(list)+1), list...), present)
}

// point returns what is known now.
func (t *EndpointTotals) point(now time.Time) Point {
	g, _ := t.judged()
	a, v, o := float64(g.Whole.Agree), float64(g.Whole.OnlyVariant), float64(g.Whole.OnlyControl)
	return Point{At: now, Rate: estimate(a, v, o), Lower: lowerBound(a+o, v), Upper: upperBound(a, v, o)}
}

// judged returns the counts by which the endpoint is judged, and their name: those of triples, if there are any.
func (t *EndpointTotals) judged() (g *Group, mode string) {
	if t.Triples.Whole.Total() == 0 {
		return &t.Pairs, "pairs"
	}
	return &t.Triples, "triples"
}
