package route

// Routes in little memory. A Route holds many times the memory of the text that it was read from, most of it
// for a decision that is rarely made, so a cache of thousands of routes keeps them packed.

import (
	"encoding/json"
	"fmt"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Packed is a route as Decode reads it, in little memory. It is comparable: two versions of a route are equal
// if they do not differ in anything that Decode reads, ResourceVersion aside, which Packed leaves out. The
// zero value is no route.
type Packed struct {
	// text is the JSON of the fields that Decode reads.
	text string
	// count and bytes are the number and the size of all annotations.
	count, bytes int
}

// rawSpec holds the fields of a spec that Decode reads.
type rawSpec struct {
	ParentRefs json.RawMessage `json:"parentRefs,omitzero"`
	Hostnames  json.RawMessage `json:"hostnames,omitzero"`
	Rules      json.RawMessage `json:"rules,omitzero"`
	Hosts      json.RawMessage `json:"hosts,omitzero"`
	Gateways   json.RawMessage `json:"gateways,omitzero"`
	ExportTo   json.RawMessage `json:"exportTo,omitzero"`
	HTTP       json.RawMessage `json:"http,omitzero"`
}

// Pack packs a route that Decode can read. It returns an error for JSON that does not have the form of a
// route.
func Pack(raw []byte) (Packed, error) {
	var o object[rawSpec]
	if err := unmarshal(raw, &o); err != nil {
		return Packed{}, unusable("pack route", err)
	}
	o.Metadata.ResourceVersion = ""
	var p Packed
	p.count, p.bytes = o.Metadata.Annotations.count, o.Metadata.Annotations.bytes
	text, err := jsonv2.Marshal(o, lenient, jsonv2.Deterministic(true), jsontext.PreserveRawStrings(true))
	if err != nil {
		return Packed{}, fmt.Errorf("pack route: %w", err)
	}
	p.text = string(text)
	return p, nil
}

// Route unpacks the route; its errors are those of Decode.
func (p Packed) Route(opts Options) (*Route, error) {
	rt, err := Decode([]byte(p.text), opts)
	if err != nil {
		return nil, err
	}
	rt.annotations.count, rt.annotations.bytes = p.count, p.bytes
	return rt, nil
}
