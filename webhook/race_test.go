//go:build race

package webhook

// raceEnabled is true under the race detector, which allocates.
const raceEnabled = true
