//go:build !race

package proxy_test

// raceEnabled is false without the race detector (see TestAllocations).
const raceEnabled = false
