package compare

// Why this file exists: the report is the answer that people and machines read. It has no value of any answer.

import (
	"fmt"
	"math"
	"time"
)

// Verdict is the answer of a comparison.
type Verdict string

// All verdicts.
const (
	Same      Verdict = "same"
	Different Verdict = "different"
	Undecided Verdict = "undecided"
)

// Report is the state of a comparison at one moment.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Summary is the verdict in one line, such as "different: GET /cart/{} body.price".
	Summary string    `json:"summary"`
	Epoch   string    `json:"epoch,omitempty"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	// Tolerance is the rate of true differences below which the variant is the same.
	Tolerance float64 `json:"tolerance"`
	// Independence is the length of a block, in seconds: the longest time for which requests may depend on each other.
	Independence float64 `json:"independenceSeconds"`
	Control      bool    `json:"control"`
	// Triples and Pairs are the numbers of requests that were compared with and without a control.
	Triples uint64 `json:"triples"`
	Pairs   uint64 `json:"pairs"`
	// Upper bounds the rate of true differences of requests that were drawn uniformly.
	Upper float64 `json:"upperBound"`
	// Skipped are the requests that were copied and not compared, by reason.
	Skipped   map[string]uint64 `json:"notCompared"`
	Endpoints []EndpointReport  `json:"endpoints"`
	Epochs    []Epoch           `json:"epochs,omitempty"`
}

// EndpointReport is the verdict on one endpoint.
type EndpointReport struct {
	Key
	Verdict Verdict `json:"verdict"`
	// Summary is the verdict with its reason in one line.
	Summary string `json:"summary"`
	// Mode is triples or pairs.
	Mode string `json:"mode"`
	// Compared is the number of compared requests, and Distinct that of different ones, estimated from 32 on.
	Compared uint64 `json:"compared"`
	Distinct uint64 `json:"distinctRequests"`
	Whole    Counts `json:"wholeAnswers"`
	// Rate estimates the rate of true differences; Lower and Upper bound it.
	Rate  float64 `json:"rate"`
	Lower float64 `json:"lowerBound"`
	Upper float64 `json:"upperBound"`
	// Blind is the share of answers that says nothing because of noise.
	Blind float64 `json:"blindShare"`
	// More is about how many more requests are needed for same; -1 if it cannot be told.
	More int `json:"moreRequests"`
	// Long is the number of answers whose bodies were too long to be compared.
	Long uint64 `json:"longBodies"`
	// Slower is about how many times slower the variant is, 0 if it is not. It decides nothing.
	Slower float64       `json:"slower,omitempty"`
	Fields []FieldReport `json:"fields"`
	// History has what was known at earlier times, and at the time of the report.
	History []Point `json:"history"`
}

// Finding is the meaning of a field's differences.
type Finding string

// The findings, by falling importance.
const (
	FoundDifferent  Finding = "different"
	FoundSoFar      Finding = "differs so far"
	FoundUnassigned Finding = "differs, cause not separated"
	FoundReplicas   Finding = "replicas of the primary differ"
	FoundMirroring  Finding = "mirroring itself changes it"
	FoundNoise      Finding = "noise"
	FoundRare       Finding = "rare"
)

// FieldReport is one field that has differed.
type FieldReport struct {
	Field   string  `json:"field"`
	Finding Finding `json:"finding"`
	// Kind is the kind of difference: value, type, missing, added, order, length or status.
	Kind string `json:"kind"`
	// Example has the classes of the values, or the statuses, of primary and variant: never a value.
	Example string `json:"example,omitempty"`
	Counts  Counts `json:"counts"`
	// Rate is the share of requests in which the variant differs beyond noise; Lower and Upper bound it.
	Rate  float64 `json:"rate"`
	Lower float64 `json:"lowerBound"`
	Upper float64 `json:"upperBound"`
	// Units is the evidence in blocks, in which the variant and the control were the odd one.
	UnitsVariant float64 `json:"unitsVariant"`
	UnitsControl float64 `json:"unitsControl"`
	// MoreSeconds is about how long it takes to be sure, if the difference goes on; 0 if it is, or is none.
	MoreSeconds float64 `json:"moreSeconds,omitempty"`
}

// percent writes a rate for people.
func percent(rate float64) string {
	switch p := 100 * rate; {
	case p == 0 || p >= 10:
		return fmt.Sprintf("%.0f%%", p)
	case p >= 0.095:
		return fmt.Sprintf("%.1f%%", p)
	default:
		return fmt.Sprintf("%.2g%%", p)
	}
}

// atMost writes an upper bound for people: it is rounded up.
func atMost(rate float64) string {
	return fmt.Sprintf("%.4g%%", max(math.Ceil(rate*1e4), 1)/1e2)
}
