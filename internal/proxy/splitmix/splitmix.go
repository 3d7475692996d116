// Package splitmix spreads the bits of a hash, so that choices by hash are even: which endpoint belongs to a
// client, and which requests are sampled.
package splitmix

// Mix makes every bit of the result depend on all bits of x (the finalizer of SplitMix64). Its results must
// never change: replicas of different versions have to agree on them.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
