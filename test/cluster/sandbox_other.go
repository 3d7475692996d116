//go:build !linux

package cluster

import "errors"

var errNotLinux = errors.New("a real node needs Linux")

// InSandbox tells whether this program runs in a sandbox.
func InSandbox() bool { return false }

// Sandbox needs Linux.
func Sandbox() (code int, err error) { return 1, errNotLinux }

func enterSandbox() error { return errNotLinux }
