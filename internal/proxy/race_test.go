//go:build race

package proxy_test

// raceEnabled is true under the race detector, which allocates (see TestAllocations).
const raceEnabled = true
