package compare

// Why this file exists: people look at a comparison again and again and stop when they like the answer. E-values and
// the bounds made of them stay valid then; p-values do not. Ville's inequality: a product whose expectation stays at
// most 1 under the null reaches 1/α with a probability of at most α, whenever one looks.

import "math"

const (
	// alpha is the probability of a wrong verdict, over all fields and all looks together.
	alpha = 0.05
	// nullOdd is the largest probability of the variant being the odd one that is no finding: odds of 1.5 to 1. With
	// one half every trifle would alarm for sure, given time.
	nullOdd = 0.6
	// nullSlower is nullOdd for latencies, which drift more.
	nullSlower = 2.0 / 3
	// mixture is the number of alternatives over which an e-value averages.
	mixture = 16
	// maxTests bounds the tests: every endpoint with all its fields.
	maxTests = maxEndpoints * maxFields

	euler = 0.5772156649
)

// The stakes of logESame, and the logarithms of their weights.
var sameStakes, sameLogWeights = func() (stakes, weights [13]float64) {
	harmonic := 0.0
	for j := 1; j <= 12; j++ {
		harmonic += 1 / float64(j)
	}
	for j := range stakes {
		stakes[j], weights[j] = math.Ldexp(1, -j), 0.5
		if j > 0 {
			weights[j] = 0.5 / (float64(j) * harmonic)
		}
		weights[j] = math.Log(weights[j])
	}
	return stakes, weights
}()

// logSumExp returns the logarithm of the sum of the exponentials, without overflow.
func logSumExp(terms []float64) float64 {
	most := math.Inf(-1)
	for _, t := range terms {
		most = max(most, t)
	}
	if math.IsInf(most, -1) {
		return most
	}
	sum := 0.0
	for _, t := range terms {
		sum += math.Exp(t - most)
	}
	return most + math.Log(sum)
}

// logEDifferent returns the logarithm of the e-value against "of the discordant units, the variant is the odd one in
// at most a share of null", for b units whose variant and c units whose control was the odd one.
func logEDifferent(b, c, null float64) float64 {
	if b == 0 && c == 0 {
		return 0
	}
	var terms [mixture]float64
	for j := range terms {
		p := null + (1-null)*(float64(j)+.5)/mixture
		terms[j] = b*math.Log(p/null) + c*math.Log((1-p)/(1-null))
	}
	return logSumExp(terms[:]) - math.Log(mixture)
}

// logThreshold returns the least logEDifferent at which the test of a rank, from 1, alarms. All tests together stay
// below alpha.
func logThreshold(rank int) float64 {
	harmonic := math.Log(maxTests) + euler + 0.5/maxTests
	return math.Log(float64(min(max(rank, 1), maxTests)) * harmonic / alpha)
}

// logESame returns the logarithm of the e-value against "the rate of true differences is tau or more". The rate is
// (onlyVariant − onlyControl) / (agree + onlyVariant) in expectation.
func logESame(agree, onlyVariant, onlyControl, tau float64) float64 {
	var terms [len(sameStakes)]float64
	for j, stake := range sameStakes {
		terms[j] = sameLogWeights[j] + agree*math.Log1p(stake*tau)
		if onlyControl > 0 {
			terms[j] += onlyControl * math.Log1p(stake)
		}
		if onlyVariant > 0 {
			terms[j] += onlyVariant * math.Log1p(-stake*(1-tau))
		}
	}
	return logSumExp(terms[:])
}

// upperBound returns the smallest rate of true differences that is refuted, 1 if none is. It may be read at any time.
func upperBound(agree, onlyVariant, onlyControl float64) float64 {
	least, most, enough := 1e-12, 1-1e-12, math.Log(1/alpha)
	if logESame(agree, onlyVariant, onlyControl, most) < enough {
		return 1
	}
	if logESame(agree, onlyVariant, onlyControl, least) >= enough {
		return 0
	}
	return crossing(least, most, func(tau float64) float64 { return logESame(agree, onlyVariant, onlyControl, tau) - enough })
}

// lowerBound returns the largest rate of differences that is too small, 0 if none is, for pairs of which so many
// agree and differ. It may be read at any time.
func lowerBound(agree, differ float64) float64 {
	enough := math.Log(1 / alpha)
	if differ == 0 || logEDifferent(differ, agree, 1e-9) < enough {
		return 0
	}
	return math.Exp(crossing(math.Log(1e-9), math.Log1p(-1e-9), func(log float64) float64 {
		return enough - logEDifferent(differ, agree, math.Exp(log))
	}))
}

// crossing returns the value between from and to at which a rising function becomes positive, from above. It is the
// Illinois method: a report is made after every request in the tests of truth, and halving takes six times as long.
func crossing(from, to float64, rising func(float64) float64) float64 {
	low, high := rising(from), rising(to)
	kept := 0 // which end stood still in the last step: its value is halved, so that it moves
	for n := 0; n < 200 && to-from > 1e-12+1e-10*math.Abs(to); n++ {
		at := to - high*(to-from)/(high-low)
		if n%8 == 7 || !(from < at && at < to) {
			at = (from + to) / 2
		}
		switch value := rising(at); {
		case value < 0:
			from, low = at, value
			if kept > 0 {
				high /= 2
			}
			kept = 1
		default:
			to, high = at, value
			if kept < 0 {
				low /= 2
			}
			kept = -1
		}
	}
	return to
}

// estimate returns the estimated rate of true differences, 0 without data.
func estimate(agree, onlyVariant, onlyControl float64) float64 {
	if agree+onlyVariant == 0 {
		return 0
	}
	return max(0, (onlyVariant-onlyControl)/(agree+onlyVariant))
}

// maxMore is the most requests that moreNeeded looks ahead.
const maxMore = 10_000_000

// moreNeeded returns how many more requests are needed for the upper bound to fall below tau, if the present rates go
// on, and false if maxMore do not suffice.
func moreNeeded(agree, onlyVariant, onlyControl, tau float64) (requests int, ok bool) {
	enough := math.Log(1 / alpha)
	if logESame(agree, onlyVariant, onlyControl, tau) >= enough {
		return 0, true
	}
	a, v, c := 1.0, 0.0, 0.0
	if n := agree + onlyVariant + onlyControl; n > 0 {
		a, v, c = agree/n, onlyVariant/n, onlyControl/n
	} else {
		agree = 1
	}
	holds := func(m float64) bool {
		return logESame(agree+a*m, onlyVariant+v*m, onlyControl+c*m, tau) >= enough
	}
	if !holds(maxMore) {
		return 0, false
	}
	least, most := 0, maxMore
	for most-least > 1 {
		if middle := (least + most) / 2; holds(float64(middle)) {
			most = middle
		} else {
			least = middle
		}
	}
	return most, true
}
