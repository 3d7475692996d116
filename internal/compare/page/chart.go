package page

// Rates on a logarithmic scale: a bound falls from all answers to a hundredth, and both ends matter.

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/compare"
)

// lowest is the rate at the lower end of the scale; what is below stands there, too.
const lowest = 1e-4

// height returns where a rate is between the lower end of the scale, 0, and the upper one, 1.
func height(rate float64) float64 {
	return math.Log(min(max(rate, lowest), 1)/lowest) / math.Log(1/lowest)
}

// chart is the history of an endpoint, on a plane of a hundred by a hundred.
type chart struct {
	// Band is the area between the bounds, and Line the estimate.
	Band, Line string
	// Tolerance is the height of the tolerance.
	Tolerance string
	Marks     []mark
	From, To  time.Time
	// Text is the chart in words.
	Text string
}

// mark is a line of the grid.
type mark struct{ Label, Y string }

// newChart returns nothing for an endpoint whose history is too short.
func newChart(e *compare.EndpointReport, tolerance float64) *chart {
	points := e.History
	if len(points) < 2 || !points[len(points)-1].At.After(points[0].At) {
		return nil
	}
	first, last := points[0], points[len(points)-1]
	c := &chart{
		From: first.At, To: last.At, Tolerance: number(100 - 100*height(tolerance)),
		Text: fmt.Sprintf("Rate of answers that differ beyond noise: first between %s and %s, now %s, between %s and %s",
			percent(first.Lower), percent(first.Upper), percent(last.Rate), percent(last.Lower), percent(last.Upper)),
	}
	for _, rate := range []float64{1, .1, .01, .001} {
		c.Marks = append(c.Marks, mark{percent(rate), number(100 - 100*height(rate))})
	}
	whole := last.At.Sub(first.At).Seconds()
	x := func(p compare.Point) string { return number(100 * p.At.Sub(first.At).Seconds() / whole) }
	place := func(p compare.Point, rate float64) string { return x(p) + "," + number(100-100*height(rate)) }
	var upper, lower, line []string
	for i, p := range points {
		upper, line = append(upper, place(p, p.Upper)), append(line, place(p, p.Rate))
		back := points[len(points)-1-i]
		lower = append(lower, place(back, back.Lower))
	}
	c.Band, c.Line = strings.Join(append(upper, lower...), " "), strings.Join(line, " ")
	return c
}

// bar is the interval of a field's rate, on a line of a hundred.
type bar struct{ From, Width, At, Tolerance, Text string }

func newBar(f *compare.FieldReport, tolerance float64) bar {
	from, to := 100*height(f.Lower), 100*height(f.Upper)
	return bar{
		From: number(from), Width: number(max(to-from, 1)), At: number(100 * height(f.Rate)), Tolerance: number(100 * height(tolerance)),
		Text: fmt.Sprintf("%s, between %s and %s", percent(f.Rate), percent(f.Lower), percent(f.Upper)),
	}
}

func number(x float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0") }
