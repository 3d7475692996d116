package routing

// Sampling requests by percentage: the fraction is exact, not only an average.

import (
	"math/bits"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/splitmix"
)

// sampler chooses num of every den requests. Without a key it counts: of every den consecutive requests it
// chooses exactly num, so that concurrency cannot change totals. The choices are spread evenly, but differ
// between samplers: den is divided into blocks of den/gcd requests with num/gcd samples each, and each block
// starts at another phase. Otherwise two mirrors of 50 % would copy the same requests, and of a client that
// alternates between two requests one would always be copied and the other never.
//
// With a key the hash of its value decides, so that the requests of a session are copied all or none, on
// every replica and after a restart. A request without the key is not copied.
type sampler struct {
	num, den uint64
	block    uint64 // den / gcd(num, den)
	seed     uint64
	counter  *atomic.Uint64
	key      key
}

// key is the part of a request that identifies its session: a header or a cookie.
type key struct{ header, cookie string }

// newSampler returns a sampler, where num <= den and den > 0. Equal seeds give equal choices.
func newSampler(num, den uint64, seed string, k key) sampler {
	return sampler{
		num: num, den: den, block: den / gcd(num, den), key: k,
		seed: mix(xxhash.Sum64String(seed)), counter: new(atomic.Uint64),
	}
}

// sample reports whether the request is chosen.
func (s *sampler) sample(r *Request) bool {
	switch {
	case s.num == 0:
		return false
	case s.num == s.den:
		return true
	case s.key != key{}:
		value, ok := s.key.of(r)
		return ok && s.verdict(value)
	}
	n := (s.counter.Add(1) - 1) % s.den
	perBlock := s.num / (s.den / s.block)
	phase := mix(s.seed+n/s.block) % s.block
	// Bresenham's line through the block
	return (n+phase)%s.block*perBlock%s.block < perBlock
}

// verdict reports whether the hash of a key's value, as a fraction of 1, is less than num/den.
func (s *sampler) verdict(value string) bool {
	limit, _ := bits.Div64(s.num, 0, s.den)
	return mix(xxhash.Sum64String(value)^s.seed) < limit
}

func (k key) of(r *Request) (string, bool) {
	if k.header != "" {
		return r.field(k.header)
	}
	cookies, _ := r.field("cookie")
	return message.Cookie(cookies, k.cookie)
}

// field looks up a header field. Rules may name Host like any other field, whatever the protocol calls it.
func (r *Request) field(name string) (string, bool) {
	if name == "host" {
		return r.Host, r.Host != ""
	}
	return r.Header.Get(name)
}

// mix is SplitMix64 with the state x.
func mix(x uint64) uint64 { return splitmix.Mix(x + 0x9e3779b97f4a7c15) }
