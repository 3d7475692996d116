package routing

// Regular expressions, and the work that one request may make with them. Each match is linear in the value (RE2), but
// there may be many expressions, values as long as a head, and expressions that repeat others.

import (
	"net/http"
	"regexp"
	"regexp/syntax"
)

const (
	// mostSteps is the most steps of a compiled expression.
	mostSteps = 10_000
	// mostWork is the most work of one request: the steps of every expression that it is tried with, times the
	// bytes of the value. It takes some tenths of a second at worst; a thousand expressions of twenty steps and a
	// path of 3 KiB stay below it.
	mostWork = 1 << 26
)

// regex is a compiled expression with the number of its steps.
type regex struct {
	*regexp.Regexp
	steps int
}

// steps returns about how many instructions an expression compiles to, at most limit+1. It is known before it is
// compiled, which takes as much memory.
func steps(re *syntax.Regexp, limit int) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n = min(n+steps(sub, limit), limit+1)
	}
	if re.Op == syntax.OpRepeat {
		times := re.Max
		if times < 0 {
			times = re.Min + 1
		}
		n = min(n*max(times, 1), limit+1)
	}
	return n
}

// tries reports whether an expression matches a value of the request. Beyond the work that a request may make nothing
// matches, and Refused is set to the given status.
func (r *Request) tries(re *regex, value string, status int) bool {
	r.work += re.steps * (len(value) + 1)
	if r.work > mostWork {
		r.Refused = status
		return false
	}
	return re.MatchString(value)
}

const (
	pathTooLong  = http.StatusRequestURITooLong
	fieldTooLong = http.StatusRequestHeaderFieldsTooLarge
)
