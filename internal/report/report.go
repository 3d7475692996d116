// Package report carries the counters of proxies to the leader, over one authenticated channel.
//
// Every proxy posts a Report to the leader about once a second, over HTTPS. It proves who it is by a token of its service
// account for Audience, and the leader takes the namespace of a report from that token alone, so that nobody reports about
// Services of another namespace. A Report holds totals since the start of the process: one that is lost loses nothing.
// docs/design/report.md has the why.
//
// A Report consists of named sections; those that the leader does not know are ignored. To carry another one:
//
//	// In the proxy. The function is called for each report; nil leaves the section out.
//	client.Add("compare", func() any { return collector.Totals() })
//
//	// In serve. A Section keeps the state of the leader; see there for when it is called.
//	report.Options{Sections: map[string]report.Section{report.Mirrors: counters, "compare": merged}}
//
// Client is made and fed by internal/proxyserve (process.go, service.go), Server by internal/serve (reports.go).
package report

import (
	"encoding/json"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	// Audience is that of the tokens of proxies: a token for it is of no use to anybody else.
	Audience = wellknown.ReportAudience
	// Path is the path that reports are posted to.
	Path = "/report"
	// Version is that of the form of a Report.
	Version = 1
	// MaxReport is the largest report in bytes.
	MaxReport = 1 << 20
)

// The names of sections.
const (
	// Mirrors is a list of Mirror.
	Mirrors = "mirrors"
)

// Report is the state of one process of a proxy.
type Report struct {
	Version int `json:"version"`
	// Service is the Service that the proxy stands in front of.
	Service string `json:"service"`
	// Process is random, another one for each process.
	Process string `json:"process"`
	// Sequence grows with each report of a process, so that a late one is known.
	Sequence uint64 `json:"sequence"`
	// Age is how long the process has run, in seconds. No clocks are compared.
	Age float64 `json:"age"`
	// Sections are the parts of the report, by name.
	Sections map[string]json.RawMessage `json:"sections"`
}

// Reply is the answer to a Report that was taken.
type Reply struct {
	// Every is the time from one report to the next, in seconds: the leader slows many reporters down.
	Every float64 `json:"every"`
}

// Source is the origin of a report.
type Source struct {
	// Namespace and Pod are those of the token. Pod is the uid of the pod that it is bound to, "" for none.
	Namespace, Pod string
	// Service and Process are the proxy's own words.
	Service, Process string
	// Whole is set if everything that the process counted belongs to this leader's time: it started after the leader
	// began. Otherwise its first report is the base from which later ones count.
	Whole bool
}

// Section is the leader's side of a named section. Calls for one process come one after the other, others may be
// concurrent.
type Section interface {
	// Forget forgets everything: this replica begins to lead, or leads no more.
	Forget()
	// Report takes the section of a report. An error refuses it; the proxy and the log of serve tell it.
	Report(from Source, section json.RawMessage) error
	// Gone is called once for a process that no longer reports, if it ever did.
	Gone(from Source)
}

// Mirror is what one proxy counted for one mirror.
type Mirror struct {
	// Route is the route's kind and name, like HTTPRoute/web, and Rule the name of its rule, or its index.
	Route string `json:"route"`
	Rule  string `json:"rule"`
	// Target is the Service of the variant, like shop/web-v2:80.
	Target string `json:"target"`
	// OK are the copies that were answered, and not by a server's error.
	OK uint64 `json:"ok"`
	// Failed are those without a good answer, by kind: 5xx, grpc, connect, tls, reset, timeout.
	Failed map[string]uint64 `json:"failed,omitempty"`
	// Dropped are those that were not sent, by reason.
	Dropped map[string]uint64 `json:"dropped,omitempty"`
}

// Target is where a proxy reports to.
type Target = wellknown.ReportTarget

// seconds is a duration in the unit of reports.
func seconds(d time.Duration) float64 { return d.Seconds() }
