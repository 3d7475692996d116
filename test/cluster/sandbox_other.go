//go:build !linux

package cluster

import "errors"

var errNotLinux = errors.New("a real node needs Linux")

// Sandbox needs Linux.
func Sandbox() (code int, err error) { return 1, errNotLinux }

func enterSandbox() error { return errNotLinux }
