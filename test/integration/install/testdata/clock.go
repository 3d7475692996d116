package main

// A wall clock that can be set wrong: a test builds mirrorgate with this file in place of
// cmd/mirrorgate/clock.go, and writes into a file by how many seconds the time is wrong. As on a real machine
// only the wall clock changes; elapsed time (the monotonic reading) does not.

import (
	"os"
	"strconv"
	"time"
	"unsafe"

	"k8s.io/utils/clock"
)

var ownClock clock.WithTicker = wrongClock{}

type wrongClock struct{ clock.RealClock }

func (wrongClock) Now() time.Time {
	now := time.Now()
	text, err := os.ReadFile(os.Getenv("MIRRORGATE_TEST_CLOCK"))
	if err != nil {
		panic(err)
	}
	wrong, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		panic(err)
	}
	// The seconds of the wall clock are above 30 bits of nanoseconds (package time).
	*(*uint64)(unsafe.Pointer(&now)) += uint64(wrong) << 30
	return now
}
