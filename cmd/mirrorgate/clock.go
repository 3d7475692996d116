package main

// The clock of this machine, in a file of its own: tests build the program with one that jumps.

import "k8s.io/utils/clock"

var ownClock clock.WithTicker = clock.RealClock{}
