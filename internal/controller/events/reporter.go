// Package events writes the Events by which mirrorgate tells the authors of routes, Services and ConfigMaps
// what it did: at a limited rate, with notes of a valid length, and once for as long as they stay the same.
package events

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

// Reporter writes Events of one action. Without a recorder it writes none.
type Reporter struct {
	recorder events.EventRecorder
	action   string
}

// NewReporter returns a Reporter whose Events all have the same action.
func NewReporter(recorder events.EventRecorder, action string) Reporter {
	return Reporter{recorder, action}
}

// maxNote is the length in bytes of the longest note that the API server accepts; it rejects an Event whose
// note is longer.
const maxNote = 1024

// Report writes an Event of type Normal or Warning about an object; related is a second object that it
// concerns, or nil. A note that is too long is cut.
//
// References must carry the resourceVersion: without it client-go would take all Events of a reason for one
// series, and keep the note of the first.
func (r Reporter) Report(regarding, related *corev1.ObjectReference, eventType, reason, format string, args ...any) {
	if r.recorder == nil {
		return
	}
	note := fmt.Sprintf(format, args...)
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-len("...")], "") + "..."
	}
	var second runtime.Object // a nil pointer in an interface would not be nil
	if related != nil {
		second = related
	}
	r.recorder.Eventf(regarding, second, eventType, reason, r.action, "%s", note)
}
