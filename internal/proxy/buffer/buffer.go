// Package buffer lends byte slices of two sizes: small ones for heads and small bodies, large ones
// for bodies that have filled a small one.
package buffer

import (
	"sync"
	"unsafe"
)

// Sizes in bytes. A large one holds a body of 64 KiB together with its head: bodies like powers of
// two, and with room for the head too they need one system call, not two.
const (
	SmallSize = 4 << 10
	LargeSize = 64<<10 + 8<<10
)

var (
	smallPool = sync.Pool{New: func() any { return new([SmallSize]byte) }}
	largePool = sync.Pool{New: func() any { return new([LargeSize]byte) }}
)

// Small returns a slice of SmallSize bytes, with whatever its last user left in it.
func Small() []byte { return smallPool.Get().(*[SmallSize]byte)[:] }

// Large returns a slice of LargeSize bytes, with whatever its last user left in it.
func Large() []byte { return largePool.Get().(*[LargeSize]byte)[:] }

// Recycle takes back what Small or Large gave, which it knows by the capacity. Everything else is
// left to the garbage collector: a buffer that had to grow must not stay in memory for ever.
func Recycle(b []byte) {
	switch cap(b) {
	case SmallSize:
		smallPool.Put((*[SmallSize]byte)(b[:SmallSize]))
	case LargeSize:
		largePool.Put((*[LargeSize]byte)(b[:LargeSize]))
	}
}

// View is b as a string, without a copy. It is valid as long as b's bytes stay.
func View(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // heads live as long as their exchange, see package message
}
