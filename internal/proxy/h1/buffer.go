package h1

import "unsafe"

// view is b as a string, without a copy. It is valid as long as b's bytes stay.
func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // heads live as long as their exchange, see package message
}
