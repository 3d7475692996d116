package compare

// Why this file exists: it counts samples within bounds. A client can invent endpoints and a variant can invent
// fields; neither may cost more memory than there is.

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	maxEndpoints = 256
	maxFields    = 512
	// maxState bounds the memory of the totals, in bytes.
	maxState      = 8 << 20
	endpointCost  = 2 << 10
	fieldCost     = 420
	blockCost     = 32
	maxEpochs     = 5
	earlierAtMost = 20
)

// Options are the settings of a comparison.
type Options struct {
	// Tolerance is the rate of true differences below which the variant is the same: 0.01 if 0.
	Tolerance float64
	// Independence is the length of a block, within which requests may depend on each other: one minute if 0. No request
	// is drawn twice within it.
	Independence time.Duration
	// Control reports whether safe requests are compared in triples.
	Control bool
	// Replicas reports that the variant is one more replica of the primary: to test the comparison itself.
	Replicas bool
	// Patterns are the paths of endpoints that are known, like /users/{id}.
	Patterns []string
	Ignore   []Ignore
	// Messages are the messages that methods of gRPC answer; others are compared by field number.
	Messages Descriptors
}

// Comparer compares samples and counts. It is safe for concurrent use.
type Comparer struct {
	options Options

	mu        sync.Mutex
	totals    *Totals
	templates *Templates
	ranks     map[uint64]int
	used      int // bytes, about
	since     time.Time
	last      time.Time
	epoch     string
	past      []Epoch
	history   history

	// Requests that are under way note these, and must not wait for a report.
	wrote   atomic.Bool
	skips   sync.Mutex
	skipped map[string]uint64
}

// Epoch is the outcome of an earlier epoch: a time in which neither workload changed.
type Epoch struct {
	Name    string    `json:"name"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Verdict Verdict   `json:"verdict"`
	Summary string    `json:"summary"`
}

// New returns a Comparer whose first epoch begins now.
func New(o *Options, now time.Time) (*Comparer, error) {
	c := &Comparer{options: *o}
	if c.options.Tolerance == 0 {
		c.options.Tolerance = 0.01
	}
	if c.options.Independence == 0 {
		c.options.Independence = time.Minute
	}
	if _, err := NewTemplates(o.Patterns); err != nil {
		return nil, err
	}
	c.begin("", now)
	return c, nil
}

func (c *Comparer) begin(epoch string, now time.Time) {
	c.totals, c.ranks, c.used = NewTotals(), map[uint64]int{}, 0
	c.templates, _ = NewTemplates(c.options.Patterns) // New has tried
	c.epoch, c.since, c.last, c.history = epoch, now, now, history{}
	c.wrote.Store(false)
	c.skips.Lock()
	c.skipped = map[string]uint64{}
	c.skips.Unlock()
}

// Begin ends the epoch, unless it has that name, and counts anew. Samples of the old epoch that are still under way
// must be dropped by the caller.
func (c *Comparer) Begin(epoch string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch == c.epoch {
		return
	}
	c.noted()
	if r := c.report(now); len(r.Endpoints) > 0 {
		c.past = append(c.past, Epoch{Name: c.epoch, Since: c.since, Until: now, Verdict: r.Verdict, Summary: r.Summary})
		c.past = c.past[max(0, len(c.past)-maxEpochs):]
	}
	c.begin(epoch, now)
}

// Skip counts a request that was not compared, under a reason.
func (c *Comparer) Skip(reason string) {
	c.skips.Lock()
	defer c.skips.Unlock()
	if _, known := c.skipped[reason]; known || len(c.skipped) < 32 {
		c.skipped[reason]++
	}
}

// Wrote notes that a request which may change state has passed: differences that begin after it may be its effect.
func (c *Comparer) Wrote() { c.wrote.Store(true) }

// noted brings the totals up to date with what requests under way have noted.
func (c *Comparer) noted() {
	c.totals.Wrote = c.totals.Wrote || c.wrote.Load()
	c.skips.Lock()
	defer c.skips.Unlock()
	for reason, n := range c.skipped {
		c.totals.Skipped[reason] += n
	}
	clear(c.skipped)
}

// Worker compares samples. Each goroutine needs its own.
type Worker struct {
	comparer   *Comparer
	comparison comparison
}

// Worker returns a new worker.
func (c *Comparer) Worker() *Worker {
	return &Worker{comparer: c, comparison: comparison{ignore: c.options.Ignore, messages: c.options.Messages}}
}

// Add compares the answers of a sample and counts the outcome. It keeps no part of the sample.
func (w *Worker) Add(s *Sample) {
	r := w.comparison.compare(s)
	w.comparer.add(s, r, &w.comparison.paths)
	w.comparison.forget()
}

func (c *Comparer) add(s *Sample, r *tripleResult, p *paths) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.At.After(c.last) {
		c.last = s.At
	}
	block := s.At.UnixNano() / int64(c.options.Independence)
	key, e := c.endpoint(&s.Request)
	group := &e.Triples
	if s.Control == nil {
		group = &e.Pairs
	} else {
		e.Latency.add(s.Variant.Latency, s.Control.Latency, block)
	}
	e.Requests.add(s.Hash)
	if r.long {
		group.Long++
	}
	whole := allEqual
	if !r.equal {
		whole = c.fields(key, group, r, p, block)
		group.Parsed++
	}
	group.Whole.add(whole, block)
	if s.Uniform {
		group.Uniform.add(whole.outcome())
	}
	if !c.totals.Wrote && !c.wrote.Load() {
		group.Quiet.add(whole.outcome())
	}
	c.history.note(s.At, c.totals)
}

// endpoint returns the totals of a request's endpoint.
func (c *Comparer) endpoint(r *Request) (Key, *EndpointTotals) {
	path, collapsed := c.templates.Of(r.Path)
	if collapsed {
		c.rename()
	}
	key := Key{Rule: r.Rule, Method: methodName(r.Method), Path: path}
	e := c.totals.Endpoints[key]
	if e == nil && (len(c.totals.Endpoints) >= maxEndpoints-1 || c.used+endpointCost > maxState) {
		key.Path, key.Method = others, others
		e = c.totals.Endpoints[key]
	}
	if e == nil {
		e = &EndpointTotals{Triples: Group{Fields: map[uint64]*FieldTotals{}}, Pairs: Group{Fields: map[uint64]*FieldTotals{}}}
		c.totals.Endpoints[key] = e
		c.used += endpointCost
	}
	return key, e
}

// rename merges the endpoints whose templates have become the same.
func (c *Comparer) rename() {
	for _, key := range c.totals.keys() {
		again := key
		if again.Path = c.templates.Again(key.Path); again == key {
			continue
		}
		e := c.totals.Endpoints[key]
		delete(c.totals.Endpoints, key)
		if mine := c.totals.Endpoints[again]; mine != nil {
			mine.Merge(e)
			c.used -= endpointCost
		} else {
			c.totals.Endpoints[again] = e
		}
	}
}

// fields counts the fields of a triple, and returns which of its whole answers are equal: each field as it is judged,
// by what is known of it from earlier triples.
func (c *Comparer) fields(key Key, g *Group, r *tripleResult, p *paths, block int64) equality {
	whole := allEqual
	for i := range r.fields {
		f := &r.fields[i]
		t := g.Fields[f.hash]
		if t == nil {
			if f.value == allEqual && f.shape == allEqual {
				continue
			}
			t = c.field(g, f, p)
		}
		whole &= t.judged(f)
		before := len(t.Value.Blocks.List) + len(t.Shape.Blocks.List)
		if c.used > maxState && before > 0 { // no room for blocks: longer ones need less
			t.Value.Blocks.double()
			t.Shape.Blocks.double()
		}
		t.Value.add(f.value, block)
		t.Shape.add(f.shape, block)
		c.used += blockCost * (len(t.Value.Blocks.List) + len(t.Shape.Blocks.List) - before)
		if f.value.outcome() == onlyVariant {
			t.Primary |= f.shapes[0]
			t.Variant |= f.shapes[1]
			if t.Name == "status" {
				t.example(StatusPair{r.statuses[0], r.statuses[1]})
			}
		}
		c.rank(key, f, t)
	}
	return whole
}

// judged returns which answers count as equal in a field. Noise is judged by its shape; if that is noise too, not at
// all. Of a field that mirroring itself changes only the two copies are compared.
func (t *FieldTotals) judged(f *fieldResult) equality {
	e, counts := f.value, &t.Value.Counts
	if counts.noisy(t.present()) {
		if e, counts = f.shape, &t.Shape.Counts; counts.noisy(t.present()) {
			return allEqual
		}
	}
	if counts.copied(t.present()) {
		if e&variantControl != 0 {
			return allEqual
		}
		return 0
	}
	return e
}

// field returns the totals of a field that differs for the first time.
func (c *Comparer) field(g *Group, f *fieldResult, p *paths) *FieldTotals {
	name := p.name(f.path)
	cost := fieldCost + len(name)
	if len(g.Fields) >= maxFields-1 || c.used+cost > maxState {
		name, f.hash = others, xxhash.Sum64String(others)
		if t := g.Fields[f.hash]; t != nil {
			return t
		}
	}
	t := &FieldTotals{Name: name, Earlier: min(g.Parsed, earlierAtMost)}
	g.Fields[f.hash] = t
	c.used += cost
	return t
}

// rank gives the tests of a field their ranks once they have evidence. Within a triple the order is that of the
// fields' hashes, never that of the evidence.
func (c *Comparer) rank(key Key, f *fieldResult, t *FieldTotals) {
	for level, counts := range []*Counts{&t.Value.Counts, &t.Shape.Counts} {
		if counts.OnlyVariant+counts.OnlyControl > 0 {
			c.rankOf(key, f.hash, level)
		}
	}
}

func (c *Comparer) rankOf(key Key, field uint64, level int) int {
	test := mix(mix(mix(mix(xxhash.Sum64String(key.Rule), xxhash.Sum64String(key.Method)), xxhash.Sum64String(key.Path)), field), uint64(level)) //nolint:gosec // 0 or 1
	k := c.ranks[test]
	if k == 0 {
		if k = len(c.ranks) + 1; k > maxTests {
			return maxTests
		}
		c.ranks[test] = k
	}
	return k
}

// Totals returns a copy of the counts.
func (c *Comparer) Totals() *Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted()
	t := NewTotals()
	t.Merge(c.totals)
	return t
}

// Report returns the present verdict with its reasons.
func (c *Comparer) Report(now time.Time) *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted()
	r := c.report(now)
	r.Epochs = slices.Clone(c.past)
	r.Skipped = maps.Clone(c.totals.Skipped)
	return r
}
