// Package heap tells the garbage collector what kind of program this is.
package heap

import (
	"os"
	"runtime/debug"
)

// percent is how much garbage may gather before it is collected, in percent of what is in
// use. Marking a model of 5,000 Services, 10,000 workloads and 5,000 routes (25 MB) takes
// 20 ms of two cores, and an admission that meets it waits; at Go's default of 100 that
// was one in twenty-five at 2,000 a second.
const percent = 250

// Relax collects less often than Go's default, as befits a small heap that lives long
// under requests that leave little behind. GOGC, where it is set, wins.
func Relax() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
