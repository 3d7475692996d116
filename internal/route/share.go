package route

// Shares that mirrorgate stores: whole millionths, so that each has one spelling in every kind of route and none is
// rounded up.

import (
	"math"
	"strconv"
)

// Share is a share of the traffic in millionths. A percent has 10,000 of them, Istio's resolution.
type Share int32

// All is the share of a mirror that copies every request.
const All Share = 1_000_000

const shareOfPercent = 10_000

// ShareOf returns the largest share that is not above a percentage, within 0 to All.
func ShareOf(percent float64) Share {
	if !(percent > 0) { // NaN as well
		return 0
	}
	if percent >= 100 {
		return All
	}
	// A percentage of at most four decimals must not lose a millionth because it has no exact binary form.
	if whole := math.Round(percent * shareOfPercent); whole/shareOfPercent == percent {
		return Share(whole)
	}
	return Share(math.Floor(percent * shareOfPercent))
}

// Percent returns the share as a percentage.
func (s Share) Percent() float64 { return float64(s) / shareOfPercent }

// String returns the share as a number of percent: "12.5".
func (s Share) String() string { return strconv.FormatFloat(s.Percent(), 'f', -1, 64) }
