package logging

import "github.com/go-logr/logr"

// OfLibrary returns the logger of controller-runtime: its messages of level info interest nobody but a debugger.
// The zero Logger, which logs nothing, has no sink and stays as it is.
func OfLibrary(log logr.Logger) logr.Logger {
	if log.GetSink() == nil {
		return log
	}
	return log.WithSink(debugSink{log.GetSink()})
}

// debugSink lowers each message by a level. A logger of level V(1) would not do: the library takes its sink alone.
type debugSink struct{ logr.LogSink }

// Enabled implements logr.LogSink.
func (s debugSink) Enabled(level int) bool { return s.LogSink.Enabled(level + 1) }

// Info implements logr.LogSink.
func (s debugSink) Info(level int, msg string, keysAndValues ...any) {
	s.LogSink.Info(level+1, msg, keysAndValues...)
}

// WithName implements logr.LogSink.
func (s debugSink) WithName(name string) logr.LogSink { return debugSink{s.LogSink.WithName(name)} }

// WithValues implements logr.LogSink.
func (s debugSink) WithValues(keysAndValues ...any) logr.LogSink {
	return debugSink{s.LogSink.WithValues(keysAndValues...)}
}
