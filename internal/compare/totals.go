package compare

// Why this file exists: the totals are all that a comparison keeps, and all that replicas have to tell. Adding those
// of several replicas gives the totals of one that has seen everything.

import (
	"cmp"
	"maps"
	"slices"
)

// Level has the counts of a field at one level: of its value, or of its shape.
type Level struct {
	Counts
	Blocks Blocks `json:"blocks"`
}

func (l *Level) add(e equality, block int64) {
	o := e.outcome()
	l.Counts.add(o)
	if o == onlyVariant || o == onlyControl {
		l.Blocks.add(block, o == onlyVariant)
	}
}

func (l *Level) merge(o *Level) {
	l.Merge(&o.Counts)
	l.Blocks.Merge(&o.Blocks)
}

// StatusPair is the statuses of primary and variant in a triple whose variant was the odd one.
type StatusPair struct {
	Primary int `json:"primary"`
	Variant int `json:"variant"`
}

func (p StatusPair) compare(o StatusPair) int {
	return cmp.Or(cmp.Compare(p.Primary, o.Primary), cmp.Compare(p.Variant, o.Variant))
}

// maxStatuses bounds the examples of a field.
const maxStatuses = 4

// FieldTotals are the counts of a field that has differed at least once.
type FieldTotals struct {
	// Name is the field, such as body.items[].price.
	Name  string `json:"name"`
	Value Level  `json:"value"`
	Shape Level  `json:"shape"`
	// Primary and Variant are the classes of its values where only the variant was the odd one.
	Primary Shape `json:"primary"`
	Variant Shape `json:"variant"`
	// Statuses are examples of statuses.
	Statuses []StatusPair `json:"statuses,omitempty"`
	// Earlier is the number of triples that had been compared by field before the field differed for the first time, at most 20:
	// they had it, or it was absent in all.
	Earlier uint64 `json:"earlier"`
}

// present returns the number of triples by which noise is measured.
func (f *FieldTotals) present() uint64 { return f.Value.Total() + f.Earlier }

func (f *FieldTotals) example(p StatusPair) {
	at, found := slices.BinarySearchFunc(f.Statuses, p, StatusPair.compare)
	if found || at == maxStatuses {
		return
	}
	f.Statuses = slices.Insert(f.Statuses, at, p)
	f.Statuses = f.Statuses[:min(len(f.Statuses), maxStatuses)]
}

func (f *FieldTotals) merge(o *FieldTotals) {
	f.Name = max(f.Name, o.Name)
	f.Value.merge(&o.Value)
	f.Shape.merge(&o.Shape)
	f.Primary |= o.Primary
	f.Variant |= o.Variant
	f.Earlier += o.Earlier
	for _, p := range o.Statuses {
		f.example(p)
	}
}

// Group has the counts of the triples of an endpoint, or of its pairs.
type Group struct {
	// Whole counts whole answers, Uniform only those that were drawn uniformly.
	Whole   Level  `json:"whole"`
	Uniform Counts `json:"uniform"`
	// Parsed is the number of answers that were compared by field; the others were equal byte by byte.
	Parsed uint64 `json:"parsed"`
	// Long is the number of answers whose bodies were too long.
	Long uint64 `json:"long"`
	// Quiet counts whole answers from before the first write that was seen.
	Quiet  Counts                  `json:"quiet"`
	Fields map[uint64]*FieldTotals `json:"fields"`
}

func (g *Group) merge(o *Group) {
	g.Whole.merge(&o.Whole)
	g.Uniform.Merge(&o.Uniform)
	g.Quiet.Merge(&o.Quiet)
	g.Parsed += o.Parsed
	g.Long += o.Long
	if g.Fields == nil {
		g.Fields = map[uint64]*FieldTotals{}
	}
	for hash, f := range o.Fields {
		mine := g.Fields[hash]
		if mine == nil {
			mine = &FieldTotals{}
			g.Fields[hash] = mine
		}
		mine.merge(f)
	}
}

// EndpointTotals are the counts of one endpoint.
type EndpointTotals struct {
	Triples  Group    `json:"triples"`
	Pairs    Group    `json:"pairs"`
	Requests Requests `json:"requests"`
	Latency  Latency  `json:"latency"`
}

// Merge adds the counts of another replica, or of an endpoint that has become the same.
func (t *EndpointTotals) Merge(o *EndpointTotals) {
	t.Triples.merge(&o.Triples)
	t.Pairs.merge(&o.Pairs)
	t.Requests.Merge(&o.Requests)
	t.Latency.Merge(&o.Latency)
}

// Totals are the counts of all endpoints.
type Totals struct {
	Endpoints map[Key]*EndpointTotals
	// Skipped counts requests that were not compared, by reason.
	Skipped map[string]uint64
	// Wrote reports that a write has been seen.
	Wrote bool
}

// NewTotals returns totals without counts.
func NewTotals() *Totals {
	return &Totals{Endpoints: map[Key]*EndpointTotals{}, Skipped: map[string]uint64{}}
}

// Merge adds the totals of another replica. It is associative and commutative, and does not change o.
func (t *Totals) Merge(o *Totals) {
	t.Wrote = t.Wrote || o.Wrote
	for reason, n := range o.Skipped {
		t.Skipped[reason] += n
	}
	for key, e := range o.Endpoints {
		mine := t.Endpoints[key]
		if mine == nil {
			mine = &EndpointTotals{}
			t.Endpoints[key] = mine
		}
		mine.Merge(e)
	}
}

// keys returns the endpoints in order.
func (t *Totals) keys() []Key { return slices.SortedFunc(maps.Keys(t.Endpoints), Key.Compare) }
