package route

// The share of the traffic that a mirror copies, in the six ways of writing it.

import (
	"encoding/json"
	"math"
	"strconv"

	"k8s.io/utils/ptr"
)

// PercentageField is one field that holds a mirror's share of the traffic.
type PercentageField struct {
	// Name is the field's name: percent, fraction, percentage, mirrorPercentage, mirrorPercent or
	// mirror_percent.
	Name string
	// Path is the field path.
	Path string
	// Value is the field as written, for messages.
	Value string
	// Percent is the share, 0 to 100.
	Percent float64
	// Problem says why Value is not a share, "" when it is one.
	Problem string
}

// Percentage is the share of the traffic that a mirror copies. No field at all means 100 %.
type Percentage struct{ Fields []PercentageField }

// Percent returns the share that takes effect, 0 to 100. The first of several fields wins, as in Istio; no
// field means 100.
func (p Percentage) Percent() float64 {
	if len(p.Fields) == 0 {
		return 100
	}
	return p.Fields[0].Percent
}

const (
	problemPercent      = "must be a number from 0 to 100"
	problemWholePercent = "must be a whole number from 0 to 100"
)

func (f *PercentageField) readPercent(raw json.RawMessage, whole bool) {
	f.Value = string(raw)
	n, err := strconv.ParseFloat(f.Value, 64)
	switch {
	case whole && (err != nil || n != math.Trunc(n) || n < 0 || n > 100):
		f.Problem = problemWholePercent
	case err != nil || math.IsNaN(n) || n < 0 || n > 100:
		f.Problem = problemPercent
	default:
		f.Percent = n
	}
	if f.Problem != "" && len(raw) > 0 && raw[0] == '"' {
		f.Problem += ", without quotes"
	}
}

// gatewayPercentage reads percent (int32, 0 to 100) and fraction of a RequestMirror filter (Gateway API,
// HTTPRequestMirrorFilter). The CRD refuses both together.
func gatewayPercentage(percent, fraction json.RawMessage) Percentage {
	var p Percentage
	if !isNull(fraction) {
		p.Fields = append(p.Fields, fractionField(fraction))
	}
	if !isNull(percent) {
		f := PercentageField{Name: "percent"}
		f.readPercent(percent, true)
		p.Fields = append(p.Fields, f)
	}
	return p
}

func fractionField(raw json.RawMessage) PercentageField {
	f := PercentageField{Name: "fraction", Value: string(raw)}
	var v struct {
		Numerator   *int64 `json:"numerator"`
		Denominator *int64 `json:"denominator"`
	}
	if err := reread(raw, &v); err != nil || v.Numerator == nil {
		f.Problem = "must have a whole numerator, and a whole denominator unless it is 100"
		return f
	}
	switch den := ptr.Deref(v.Denominator, 100); {
	case *v.Numerator < 0:
		f.Problem = "numerator must be 0 or more"
	case den < 1:
		f.Problem = "denominator must be 1 or more"
	case *v.Numerator > den:
		f.Problem = "numerator must be less than or equal to denominator"
	default:
		f.Percent = 100 * float64(*v.Numerator) / float64(den)
	}
	return f
}

// istioPercent reads an Istio Percent message: {value: 12.5}. A message without a value means 0, as in
// protobuf.
func istioPercent(name string, raw json.RawMessage) PercentageField {
	f := PercentageField{Name: name, Value: string(raw)}
	var v struct {
		Value json.RawMessage `json:"value"`
	}
	switch {
	case reread(raw, &v) != nil && json.Valid(raw) && raw[0] >= '0' && raw[0] <= '9':
		f.Problem = "must have the form {value: " + f.Value + "}"
	case reread(raw, &v) != nil:
		f.Problem = "must have the form {value: PERCENT}"
	case !isNull(v.Value):
		f.readPercent(v.Value, false)
	}
	return f
}
