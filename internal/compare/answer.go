package compare

// Why this file exists: it names the values that a comparison is made of, as the proxy collects them.

import (
	"cmp"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// MaxBody is the longest body, in bytes, that is compared. A longer one is compared by its length alone.
const MaxBody = 64 << 10

// Field is one header or trailer field.
type Field struct{ Name, Value string }

// Answer is the answer of one of the three.
type Answer struct {
	// Status is the status of the answer, 0 if there is none.
	Status int
	// Failure is why there is no complete answer: timeout, reset or connect; empty for an answer.
	Failure string
	// Fields are the header fields, Trailers those after the body.
	Fields, Trailers []Field
	// Body is the body as it was sent, unless it is Long.
	Body []byte
	// Long reports that the body was longer than MaxBody and was not kept.
	Long bool
	// Length is the length of the body, -1 if it is not known.
	Length int64
	// Latency is the time from the request to the head of the answer, 0 if it is not known.
	Latency time.Duration
}

// get returns the value of the first header field with a name in lower case.
func (a *Answer) get(name string) string {
	for i := range a.Fields {
		if strings.EqualFold(a.Fields[i].Name, name) {
			return a.Fields[i].Value
		}
	}
	return ""
}

// Request is the part of a request that a comparison needs. No part of it is kept but Rule, Method and the template
// of Path.
type Request struct {
	// Rule is the name of the rule that the request follows, empty if there is only one.
	Rule string
	// Method is the request's method, and Path the path of its target, without the query.
	Method, Path string
	// Hash identifies equal requests: method, host, target and body. RequestHash makes it.
	Hash uint64
}

// RequestHash returns the Request.Hash of a request. It is the same in every replica.
func RequestHash(method, host, target string, body []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, part := range []string{method, host, target} {
		_, _ = d.WriteString(part)
		_, _ = d.WriteString("\x00")
	}
	_, _ = d.Write(body)
	return d.Sum64()
}

// Sample is one request with its answers.
type Sample struct {
	Request
	// At is when the request arrived.
	At time.Time
	// Uniform reports that the request was drawn with the same probability as every other.
	Uniform bool
	// Primary and Variant are always there, Control only in a triple.
	Primary, Variant Answer
	Control          *Answer
}

// mix combines two hashes; the order matters.
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ b
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// methodName returns a method to show: one that a client made up is none.
func methodName(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY":
		return method
	}
	return others
}

// Key is one endpoint: a rule, a method and the template of a path.
type Key struct {
	Rule   string `json:"rule,omitempty"`
	Method string `json:"method"`
	Path   string `json:"path"`
}

// String returns the endpoint as people write it.
func (k Key) String() string {
	if k.Rule != "" {
		return k.Rule + ": " + k.Method + " " + k.Path
	}
	return k.Method + " " + k.Path
}

// Compare orders keys.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Rule, o.Rule), cmp.Compare(k.Path, o.Path), cmp.Compare(k.Method, o.Method))
}
