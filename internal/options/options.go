// Package options holds the options that several verbs of mirrorgate share: how a verb reaches the API
// server, how it logs, and how it reports a value that it does not support.
package options

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// OneOf returns an error that names the flag and the supported values, unless value is one of them.
func OneOf(flag, value string, supported ...string) field.ErrorList {
	if slices.Contains(supported, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(field.NewPath(flag), value, supported)}
}
