package routing

// Compiling RequestMirror filters to mirrors and their targets, and parsing durations and sizes.

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// target is a mirror target, with the limits that mirrors have declared for it so far.
type target struct {
	*MirrorTarget
	declared map[string]declaration
}

// declaration is the value of a limit, and the path of the field that declares it.
type declaration struct{ value, at string }

// mirror compiles a RequestMirror. edits and rewrite are those of the rule and the backend; they apply before
// the mirror's own.
func (c *compiler) mirror(r *Rule, s mirrorSpec, edits *message.HeaderEdits, rewrite *Rewrite) *Mirror {
	t := c.target(s)
	own := &s.Mirrorgate
	at := s.at + ".mirrorgate"
	m := &Mirror{
		Index: len(c.table.Mirrors), Rule: r, Target: t.MirrorTarget,
		Name:    fmt.Sprintf("%s>%s#%d", r.Name, t.Name, c.ordinal(r, t.MirrorTarget)),
		Headers: *edits, Rewrite: *rewrite,
		MaxBody: defaultMaxBody, Timeout: defaultTimeout,
		Compare:  own.Compare != nil && *own.Compare,
		keepHost: own.ShadowHost != nil && !*own.ShadowHost,
		methods:  own.Methods,
	}
	c.table.Mirrors = append(c.table.Mirrors, m)
	if own.Headers != nil {
		copied := c.headers(own.Headers, at+".headers")
		m.Headers = edits.Then(&copied)
	}
	for i, method := range own.Methods {
		if !methodToken.MatchString(method) {
			c.invalid(index(at, "methods", i), method, "must be a method in capitals, like GET")
		}
	}
	if n := own.MaxPerSecond; n != nil {
		if *n < 1 || *n > maxPerSecond {
			c.invalid(at+".maxPerSecond", *n, "must be from 1 to %d", maxPerSecond)
		}
		m.pace = rate.NewLimiter(rate.Limit(*n), *n)
	}
	if own.MaxBody != "" {
		m.MaxBody = parsed(c, at+".maxBody", string(own.MaxBody), ParseSize)
	}
	if own.Timeout != "" {
		if m.Timeout = parsed(c, at+".timeout", own.Timeout, ParseDuration); m.Timeout == 0 {
			c.invalid(at+".timeout", own.Timeout, "must be more than 0")
		}
	}
	num, den := c.fraction(s)
	seed := m.Name
	if own.Keyed != nil {
		seed = cmp.Or(own.Keyed.Seed, t.Name)
	}
	m.sampler = newSampler(num, den, seed, c.key(own.Keyed, at+".keyed"))
	return m
}

// maxPerSecond bounds Mirror.MaxPerSecond.
const maxPerSecond = 1_000_000

// ordinal returns the number of earlier mirrors of the rule to the same target, which makes names unique.
func (c *compiler) ordinal(r *Rule, t *MirrorTarget) int {
	name := r.Name + ">" + t.Name
	c.mirrors[name]++
	return c.mirrors[name] - 1
}

// fraction returns the fraction of requests that are copied. It is valid, and at most 1, even if the
// specification is not.
func (c *compiler) fraction(s mirrorSpec) (num, den uint64) {
	n, d := 100, 100
	switch {
	case s.Percent != nil && s.Fraction != nil:
		c.invalid(s.at+".fraction", nil, "must not be set beside percent; use one of them")
	case s.Percent != nil:
		n = *s.Percent
		if n < 0 || n > 100 {
			c.invalid(s.at+".percent", n, "must be from 0 to 100")
		}
	case s.Fraction != nil:
		n = s.Fraction.Numerator
		if s.Fraction.Denominator != nil {
			d = *s.Fraction.Denominator
		}
		if d < 1 || d > 1<<31-1 {
			c.invalid(s.at+".fraction.denominator", d, "must be from 1 to 2147483647")
		}
		if n < 0 || n > d {
			c.invalid(s.at+".fraction.numerator", n, "must be from 0 to the denominator, %d", d)
		}
	}
	if d < 1 || n < 0 || n > d {
		return 0, 1
	}
	return uint64(n), uint64(d)
}

func (c *compiler) key(s *spec.Keyed, at string) key {
	if s == nil {
		return key{}
	}
	switch {
	case (s.Header == "") == (s.Cookie == ""):
		c.invalid(at, nil, "must have either header or cookie")
	case s.Header != "" && !fieldName.MatchString(s.Header):
		c.invalid(at+".header", s.Header, "must be the name of a header field")
	case s.Cookie != "" && !fieldName.MatchString(s.Cookie):
		c.invalid(at+".cookie", s.Cookie, "must be the name of a cookie")
	}
	return key{header: strings.ToLower(s.Header), cookie: s.Cookie}
}

// target returns the target of a mirror, and adds the limits that the mirror declares.
func (c *compiler) target(s mirrorSpec) *target {
	at := s.at + ".backendRef"
	if s.BackendRef.Weight != nil || len(s.BackendRef.Filters) > 0 {
		c.invalid(at, nil, "must have name and port only; a mirror has no weight and no filters")
	}
	port := c.ref(&s.BackendRef, at)
	name := portName(s.BackendRef.Name, s.BackendRef.Port)
	t := c.targets[name]
	if t == nil {
		t = &target{declared: map[string]declaration{}, MirrorTarget: &MirrorTarget{
			Index: len(c.table.Targets), Name: name, Port: port,
			Limits: DefaultLimits,
		}}
		c.targets[name] = t
		c.table.Targets = append(c.table.Targets, t.MirrorTarget)
	}
	c.limits(t, &s.Mirrorgate, s.at+".mirrorgate")
	return t
}

func (c *compiler) limits(t *target, s *spec.Mirror, at string) {
	c.count(t, at+".maxInFlight", s.MaxInFlight, 1, &t.Limits.MaxInFlight)
	c.count(t, at+".queue", s.Queue, 0, &t.Limits.Queue)
	if s.Budget != "" && c.declare(t, at+".budget", string(s.Budget)) {
		t.Limits.Budget = parsed(c, at+".budget", string(s.Budget), ParseSize)
	}
	if s.Penalty == nil {
		return
	}
	p, at := &t.Limits.Penalty, at+".penalty"
	c.count(t, at+".failures", s.Penalty.Failures, 1, &p.Failures)
	c.count(t, at+".longFailures", s.Penalty.LongFailures, 1, &p.LongFailures)
	for _, d := range []struct {
		name, value string
		to          *time.Duration
	}{{".pause", s.Penalty.Pause, &p.Pause}, {".longPause", s.Penalty.LongPause, &p.LongPause}} {
		if d.value != "" && c.declare(t, at+d.name, d.value) {
			*d.to = parsed(c, at+d.name, d.value, ParseDuration)
		}
	}
}

func (c *compiler) count(t *target, at string, value *int, least int, to *int) {
	if value == nil || !c.declare(t, at, strconv.Itoa(*value)) {
		return
	}
	if *to = *value; *to < least || *to > 1_000_000 {
		c.invalid(at, *to, "must be from %d to 1000000", least)
	}
}

// declare records the value that a mirror gives to a limit of its target. It reports a value that contradicts
// that of another mirror.
func (c *compiler) declare(t *target, at, value string) bool {
	name := at[strings.LastIndex(at, ".mirrorgate.")+1:]
	before, ok := t.declared[name]
	if ok && before.value != value {
		c.invalid(at, value, "must be %s as in %s: mirrors to one target share its limits", before.value, before.at)
		return false
	}
	t.declared[name] = declaration{value, at}
	return true
}

var durationPattern = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// ParseDuration reads a duration of Gateway API (GEP-2257), like 10s or 1m30s.
func ParseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && durationPattern.MatchString(s) {
		return d, nil
	}
	return 0, fmt.Errorf("must be a duration, like 10s, 500ms or 1m30s")
}

// ParseSize reads a number of bytes, like 65536, 64Ki or 64KiB.
func ParseSize(s string) (int64, error) {
	number := strings.TrimSuffix(s, "B")
	shift := 0
	for i, suffix := range []string{"Ki", "Mi", "Gi"} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, shift = n, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > 1<<40>>shift || number[0] < '0' || shift == 0 && number != s {
		return 0, fmt.Errorf("must be a size, like 65536, 64Ki or 1Mi, of at most 1024Gi")
	}
	return n << shift, nil
}

// parsed returns a value as parse reads it. It returns 0 if the value is empty or invalid.
func parsed[T int64 | time.Duration](c *compiler, at, value string, parse func(string) (T, error)) T {
	if value == "" {
		return 0
	}
	out, err := parse(value)
	if err != nil {
		c.invalid(at, value, "%s", err)
	}
	return out
}
