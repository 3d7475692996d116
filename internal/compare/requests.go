package compare

// Why this file exists: a verdict on one request that was sent a thousand times is a verdict on one request. The
// number of different requests, and the share of the most frequent one, are known without a list of requests.

import (
	"math"
	"slices"
)

const (
	// fewRequests is the number of different requests below which a verdict names their number.
	fewRequests = 30
	kept        = 32
	buckets     = 64
)

// Requests counts different requests. Merging is associative and commutative.
type Requests struct {
	// Smallest are the smallest hashes that were seen, in ascending order: all of them, if there are few.
	Smallest []uint64 `json:"smallest"`
	// Buckets has the number of requests by hash. The fullest bounds the number of any request.
	Buckets [buckets]uint64 `json:"buckets"`
}

func (r *Requests) add(hash uint64) {
	hash = mix(hash, 1)
	r.Buckets[hash%buckets]++
	r.keep(hash)
}

func (r *Requests) keep(hash uint64) {
	at, found := slices.BinarySearch(r.Smallest, hash)
	if found || at == kept {
		return
	}
	r.Smallest = slices.Insert(r.Smallest, at, hash)
	r.Smallest = r.Smallest[:min(len(r.Smallest), kept)]
}

// Merge adds the requests of another replica.
func (r *Requests) Merge(o *Requests) {
	for _, hash := range o.Smallest {
		r.keep(hash)
	}
	for i, n := range o.Buckets {
		r.Buckets[i] += n
	}
}

// distinct returns the number of different requests: exactly if they are few, else an estimate.
func (r *Requests) distinct() uint64 {
	n := len(r.Smallest)
	if n < kept {
		return uint64(n)
	}
	return uint64(float64(kept-1) / (float64(r.Smallest[n-1]) / math.MaxUint64))
}

// most returns a bound on the share of the most frequent request.
func (r *Requests) most() float64 {
	sum := uint64(0)
	for _, n := range r.Buckets {
		sum += n
	}
	if sum == 0 {
		return 0
	}
	return float64(slices.Max(r.Buckets[:])) / float64(sum)
}
