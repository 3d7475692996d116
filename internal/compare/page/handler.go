package page

// The report over HTTP: for people, for programs, and for the tools that move a rollout on.

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/mirrorgate/mirrorgate/internal/compare"
)

// The paths of a Handler.
const (
	// Path is the page.
	Path = "/compare"
	// JSONPath is the report of which the page is made. Argo Rollouts' web provider reads {$.verdict} there.
	JSONPath = "/compare.json"
	// ConfirmPath answers 200 for same and else 409: Flagger's confirm-rollout, confirm-traffic-increase and
	// confirm-promotion wait for it.
	ConfirmPath = "/compare/confirm"
	// RollbackPath answers 200 for different and else 409: Flagger's rollback begins with it.
	RollbackPath = "/compare/rollback"
)

// maxPayload bounds the body of a webhook, which is read and not needed.
const maxPayload = 64 << 10

// Handler serves reports. It knows no users: nobody must reach it who may not see names of fields and counts.
func Handler(of string, report func() *compare.Report) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, _ *http.Request) {
		h := head(w, "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", Policy+"; frame-ancestors 'none'")
		_ = Write(w, report(), of) // an error is a client that went away
	})
	mux.HandleFunc("GET "+JSONPath, func(w http.ResponseWriter, _ *http.Request) {
		head(w, "application/json")
		_ = json.NewEncoder(w).Encode(report())
	})
	mux.HandleFunc("POST "+ConfirmPath, gate(report, compare.Same))
	mux.HandleFunc("POST "+RollbackPath, gate(report, compare.Different))
	return mux
}

// gate answers 200 if the verdict is the wanted one, and else 409. The text of a 409 is what Flagger shows.
func gate(report func() *compare.Report, wanted compare.Verdict) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxPayload))
		now := report()
		head(w, "text/plain; charset=utf-8")
		if now.Verdict != wanted {
			w.WriteHeader(http.StatusConflict)
		}
		_, _ = io.WriteString(w, now.Summary+"\n")
	}
}

func head(w http.ResponseWriter, kind string) http.Header {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	return h
}
