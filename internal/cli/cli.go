// Package cli has the parts that several verbs of mirrorgate share: how a verb reaches the API server, how it
// logs, and how it reports a value that it does not support.
package cli

import (
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"
)

// Log configures the log of a verb; its fields are the flags --log-level and --log-format.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `json:"log-level,omitempty"`
	// Format is text or json.
	Format string `json:"log-format,omitempty"`
}

// DefaultLog logs text from level info on.
func DefaultLog() Log { return Log{Level: "info", Format: "text"} }

// Validate checks both fields; the errors name the flags.
func (l Log) Validate() field.ErrorList {
	return append(OneOf("log-level", l.Level, "debug", "info", "warn", "error"), OneOf("log-format", l.Format, "text", "json")...)
}

var librariesLog sync.Once

// Logger returns a logger that writes to standard error. The first logger of a process also becomes that of
// the Kubernetes client library; a later one does not, since the library reads it without a lock.
func (l Log) Logger() logr.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // Validate has checked it
	opts := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, opts)
	if l.Format == "json" {
		handler = slog.NewJSONHandler(os.Stderr, opts)
	}
	logger := logr.FromSlogHandler(handler)
	librariesLog.Do(func() { klog.SetLogger(logger) })
	return logger
}

// Name returns an error for each of the problems of a name; the errors name the flag.
func Name(flag, name string, problems func(string) []string) (errs field.ErrorList) {
	for _, problem := range problems(name) {
		errs = append(errs, field.Invalid(field.NewPath(flag), name, problem))
	}
	return errs
}

// OneOf returns an error that names the flag and the supported values, unless value is one of them.
func OneOf(flag, value string, supported ...string) field.ErrorList {
	if slices.Contains(supported, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(field.NewPath(flag), value, supported)}
}
