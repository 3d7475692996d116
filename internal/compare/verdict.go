package compare

// Why this file exists: it turns counts into verdicts. Different needs one field whose evidence in blocks of time
// reaches the threshold of its rank; same needs a bound below the tolerance; all else is undecided, with the reason.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// maxBlind is the largest share of answers that may say nothing.
	maxBlind = 0.05
	// maxOne is the largest share of one request in the counts.
	maxOne = 0.2
	// minShare is the least share of the requests from which an endpoint must be the same for the mirror to be.
	minShare = 0.01
	// quietEnough is the number of answers before the first write that show that differences came with it.
	quietEnough = 30
)

// report makes the report of the present epoch.
func (c *Comparer) report(now time.Time) *Report {
	r := &Report{
		Epoch: c.epoch, Since: c.since, Until: now, Tolerance: c.options.Tolerance,
		Independence: c.options.Independence.Seconds(), Control: c.options.Control, Endpoints: []EndpointReport{},
	}
	var uniform Counts
	var shares []uint64
	for _, key := range c.totals.keys() {
		t := c.totals.Endpoints[key]
		r.Triples += t.Triples.Whole.Total()
		r.Pairs += t.Pairs.Whole.Total()
		g, mode := t.judged()
		uniform.Merge(&g.Uniform)
		shares = append(shares, g.Uniform.Total())
		r.Endpoints = append(r.Endpoints, c.judge(key, t, g, mode))
		e := &r.Endpoints[len(r.Endpoints)-1]
		e.History = c.history.of(key, Point{At: now, Rate: e.Rate, Lower: e.Lower, Upper: e.Upper})
	}
	a, v, o := float64(uniform.Agree), float64(uniform.OnlyVariant), float64(uniform.OnlyControl)
	r.Upper = upperBound(a, v, o)
	c.conclude(r, shares, uniform.Total())
	return r
}

// conclude makes the verdict on the mirror of those on its endpoints.
func (c *Comparer) conclude(r *Report, shares []uint64, total uint64) {
	var different []string
	worst := -1
	for i := range r.Endpoints {
		e := &r.Endpoints[i]
		switch {
		case e.Verdict == Different:
			different = append(different, e.String()+" "+e.first())
		case e.Verdict == Undecided && float64(shares[i]) >= minShare*float64(total) && (worst < 0 || shares[i] > shares[worst]):
			worst = i
		}
	}
	switch {
	case len(different) > 0:
		r.Verdict = Different
		r.Summary = "different: " + strings.Join(different[:min(3, len(different))], "; ")
		if more := len(different) - 3; more > 0 {
			r.Summary += fmt.Sprintf("; %d more", more)
		}
	case len(r.Endpoints) == 0:
		r.Verdict, r.Summary = Undecided, "undecided: no request has been compared"
	case worst >= 0:
		r.Verdict = Undecided
		r.Summary = "undecided: " + strings.TrimPrefix(r.Endpoints[worst].Summary, "undecided: ")
		if len(r.Endpoints) > 1 {
			r.Summary += " (" + r.Endpoints[worst].String() + ")"
		}
	case r.Upper >= r.Tolerance:
		r.Verdict, r.Summary = Undecided, "undecided: more requests of all endpoints together"
	default:
		r.Verdict = Same
		r.Summary = fmt.Sprintf("same: fewer than %s of answers differ", atMost(r.Upper))
		for i := range r.Endpoints {
			if e := &r.Endpoints[i]; len(r.Endpoints) == 1 && e.Distinct < fewRequests {
				r.Summary = e.Summary
			}
		}
	}
}

// first returns the field that matters most.
func (e *EndpointReport) first() string {
	if len(e.Fields) == 0 {
		return ""
	}
	return e.Fields[0].Field
}

// judge makes the verdict on one endpoint.
func (c *Comparer) judge(key Key, t *EndpointTotals, g *Group, mode string) EndpointReport {
	whole := g.Whole.Counts
	a, v, o := float64(whole.Agree), float64(whole.OnlyVariant), float64(whole.OnlyControl)
	e := EndpointReport{
		Key: key, Mode: mode, Compared: whole.Total(), Distinct: t.Requests.distinct(), Whole: whole, Long: g.Long,
		Rate: estimate(a, v, o), Lower: lowerBound(a+o, v), Upper: upperBound(a, v, o), More: -1,
	}
	if e.Compared > 0 {
		e.Blind = float64(whole.BothEqual+whole.BothUnequal) / float64(e.Compared)
	}
	if more, ok := moreNeeded(a, v, o, c.options.Tolerance); ok {
		e.More = more
	}
	if times, so := t.Latency.slower(); so {
		e.Slower = times
	}
	e.Fields = c.fieldReports(key, g, mode)
	c.decide(&e, g, t.Requests.most())
	return e
}

// decide fills in the verdict and its summary.
func (c *Comparer) decide(e *EndpointReport, g *Group, most float64) {
	undecided := func(format string, args ...any) {
		e.Verdict, e.Summary = Undecided, "undecided: "+fmt.Sprintf(format, args...)
	}
	found := FoundRare
	if len(e.Fields) > 0 {
		found = e.Fields[0].Finding
	}
	variant, control := g.Whole.Blocks.units()
	replicas := logEDifferent(control, variant, nullOdd) >= logThreshold(1)
	switch {
	case found == FoundDifferent && c.totals.Wrote && g.Quiet.OnlyVariant == 0 && g.Quiet.Agree >= quietEnough:
		undecided("%s differs since a write, and not before: the variant's own state may have drifted", e.Fields[0].Field)
	case found == FoundDifferent:
		e.Verdict = Different
		e.Summary = "different: " + e.Fields[0].line()
		if n := e.count(FoundDifferent); n > 1 {
			e.Summary += fmt.Sprintf(", and %d more", n-1)
		}
	case e.Blind > maxBlind && replicas:
		undecided("replicas of the primary differ%s", e.because(FoundReplicas))
	case e.Blind > maxBlind:
		undecided("%s of answers say nothing, because of noise%s", percent(e.Blind), e.because(FoundNoise, FoundMirroring))
	case e.Upper < c.options.Tolerance && e.Distinct >= fewRequests && most > maxOne:
		undecided("one request makes %s of those compared", percent(most))
	case e.Upper < c.options.Tolerance:
		e.Verdict, e.Summary = Same, e.scope()+fmt.Sprintf(": fewer than %s of answers differ%s", atMost(e.Upper), e.though(replicas))
	case found == FoundUnassigned:
		f := &e.Fields[0]
		undecided("%s differs in %s (at least %s), cause not separated", f.Field, percent(f.Rate), percent(f.Lower))
	case found == FoundSoFar && e.Fields[0].MoreSeconds > 0:
		f := &e.Fields[0]
		undecided("%s differs so far, in %s; sure in about %s", f.Field, percent(f.Rate), duration(f.MoreSeconds))
	case e.More < 0:
		undecided("too many differences for same, too few to tell which field")
	default:
		undecided("about %s", plural(e.More, "more request"))
	}
}

// though says that replicas of the primary differ, if they do.
func (e *EndpointReport) though(replicas bool) string {
	if !replicas {
		return ""
	}
	return ", though replicas of the primary differ" + e.because(FoundReplicas)
}

// scope returns the verdict same with the requests that it is about, if they are few.
func (e *EndpointReport) scope() string {
	if e.Distinct < fewRequests {
		return fmt.Sprintf("same on the %s seen", plural(int(e.Distinct), "request"))
	}
	return "same"
}

// because names a field with one of the findings.
func (e *EndpointReport) because(of ...Finding) string {
	for i := range e.Fields {
		if slices.Contains(of, e.Fields[i].Finding) {
			return " in " + e.Fields[i].Field
		}
	}
	return ""
}

func (e *EndpointReport) count(of Finding) (n int) {
	for i := range e.Fields {
		if e.Fields[i].Finding == of {
			n++
		}
	}
	return n
}

// line describes a field in a few words.
func (f *FieldReport) line() string {
	text := f.Field
	if f.Example != "" {
		text += " (" + f.Example + ")"
	}
	return text + " in " + percent(f.Rate)
}

// maxReported bounds the fields of an endpoint in a report.
const maxReported = 100

// fieldReports returns the fields of an endpoint, the most important first.
func (c *Comparer) fieldReports(key Key, g *Group, mode string) []FieldReport {
	list := make([]FieldReport, 0, len(g.Fields))
	for hash, t := range g.Fields {
		list = append(list, c.fieldReport(key, hash, t, g, mode))
	}
	order := []Finding{FoundDifferent, FoundSoFar, FoundUnassigned, FoundReplicas, FoundMirroring, FoundNoise, FoundRare}
	slices.SortFunc(list, func(a, b FieldReport) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Finding), slices.Index(order, b.Finding)), cmp.Compare(importance(a.Field), importance(b.Field)),
			cmp.Compare(b.Rate, a.Rate), cmp.Compare(len(a.Field), len(b.Field)), cmp.Compare(a.Field, b.Field))
	})
	return list[:min(len(list), maxReported)]
}

// importance orders fields of equal findings: an error or another status explains all else.
func importance(field string) int {
	switch first, _, _ := strings.Cut(field, " "); {
	case first == "error":
		return 0
	case first == "status":
		return 1
	case strings.HasPrefix(first, "body"):
		return 2
	}
	return 3
}

// fieldReport describes one field.
func (c *Comparer) fieldReport(key Key, hash uint64, t *FieldTotals, g *Group, mode string) FieldReport {
	level, rank := &t.Value, 0
	if t.Value.noisy(t.present()) || t.Value.copied(t.present()) && !t.Shape.copied(t.present()) {
		level, rank = &t.Shape, 1
	}
	counts := level.Counts
	// Triples without the field, or in which all were equal, agree.
	counts.Agree = g.Whole.Total() - min(g.Whole.Total(), counts.Total()-counts.Agree)
	a, v, o := float64(counts.Agree), float64(counts.OnlyVariant), float64(counts.OnlyControl)
	f := FieldReport{
		Field: t.Name, Kind: t.kind(), Example: t.exampleText(), Counts: counts, Rate: estimate(a, v, o),
		Lower: lowerBound(a+o, v), Upper: upperBound(a, v, o),
	}
	f.UnitsVariant, f.UnitsControl = level.Blocks.units()
	if mode == "pairs" {
		f.Finding, f.UnitsVariant = FoundUnassigned, 0
		return f
	}
	threshold := logThreshold(c.rankOf(key, hash, rank))
	switch {
	case logEDifferent(f.UnitsVariant, f.UnitsControl, nullOdd) >= threshold:
		f.Finding = FoundDifferent
	case logEDifferent(v, o, nullOdd) >= threshold:
		f.Finding, f.MoreSeconds = FoundSoFar, c.moreSeconds(&f, level.Blocks.Doublings, threshold)
	case logEDifferent(f.UnitsControl, f.UnitsVariant, nullOdd) >= threshold:
		f.Finding = FoundReplicas
	case t.Value.copied(t.present()):
		f.Finding = FoundMirroring
	case t.Value.noisy(t.present()):
		f.Finding = FoundNoise
	default:
		f.Finding = FoundRare
	}
	return f
}

// moreSeconds returns about how long a field takes to alarm, if blocks go on as they were.
func (c *Comparer) moreSeconds(f *FieldReport, doublings uint8, threshold float64) float64 {
	units := f.UnitsVariant + f.UnitsControl
	for n := 1.0; n < 10*maxBlocks && units > 0; n++ {
		if logEDifferent(f.UnitsVariant*(1+n/units), f.UnitsControl*(1+n/units), nullOdd) >= threshold {
			return n * c.options.Independence.Seconds() * float64(uint64(1)<<doublings)
		}
	}
	return 0
}

// kind returns the kind of a difference.
func (t *FieldTotals) kind() string {
	switch {
	case t.Name == "status" || t.Name == "error":
		return t.Name
	case strings.HasSuffix(t.Name, orderKind), strings.HasSuffix(t.Name, elementsKind):
		return kindOrder
	case strings.HasSuffix(t.Name, lengthKind):
		return kindLength
	case t.Variant == Absent:
		return "missing"
	case t.Primary == Absent:
		return "added"
	case t.Variant != t.Primary:
		return kindType
	}
	return kindValue
}

// exampleText shows the classes of differing values.
func (t *FieldTotals) exampleText() string {
	if len(t.Statuses) > 0 {
		return fmt.Sprintf("%s → %s", statusText(t.Statuses[0].Primary), statusText(t.Statuses[0].Variant))
	}
	if t.Primary == t.Variant {
		return ""
	}
	return t.Primary.String() + " → " + t.Variant.String()
}

func statusText(status int) string {
	if status == 0 {
		return "none"
	}
	return fmt.Sprint(status)
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// duration writes seconds for people.
func duration(seconds float64) string {
	switch {
	case seconds < 90:
		return plural(max(1, int(seconds+.5)), "second")
	case seconds < 5400:
		return plural(int(seconds/60+.5), "minute")
	}
	return plural(int(seconds/3600+.5), "hour")
}
