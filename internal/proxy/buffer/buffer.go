// Package buffer pools byte slices of two sizes: small ones for heads and small bodies, large ones for bodies
// that do not fit into a small one.
package buffer

import (
	"sync"
	"unsafe"
)

// Sizes in bytes. A large buffer holds a body of 64 KiB together with its head, so that one system call is
// enough: sizes of bodies are often powers of two.
const (
	SmallSize = 4 << 10
	LargeSize = 64<<10 + 8<<10
)

var (
	smallPool = sync.Pool{New: func() any { return new([SmallSize]byte) }}
	largePool = sync.Pool{New: func() any { return new([LargeSize]byte) }}
)

// Small returns a slice of SmallSize bytes. Its contents are undefined.
func Small() []byte { return smallPool.Get().(*[SmallSize]byte)[:] }

// Large returns a slice of LargeSize bytes. Its contents are undefined.
func Large() []byte { return largePool.Get().(*[LargeSize]byte)[:] }

// Recycle returns a slice of Small or Large, recognised by its capacity, to its pool. Any other slice is left
// to the garbage collector: a buffer that had to grow must not stay in memory for ever.
func Recycle(b []byte) {
	switch cap(b) {
	case SmallSize:
		smallPool.Put((*[SmallSize]byte)(b[:SmallSize]))
	case LargeSize:
		largePool.Put((*[LargeSize]byte)(b[:LargeSize]))
	}
}

// View returns b as a string without copying it. The string is valid as long as the bytes do not change.
func View(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // heads live as long as their exchange, see package message
}
