package route

// Lists that are too long to be read. An object of two bytes takes hundreds in memory once it is read as a backend or
// a mirror, so that a route of megabytes could take gigabytes.

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxList is the length of the longest list that is read. The CRDs of the Gateway API allow at most 64 elements;
// VirtualServices have no limit of their own.
const maxList = 1024

// TooLongError is the error of Decode for a list that is too long to be read. The API refuses such lists of HTTPRoutes
// and GRPCRoutes, whatever mirrorgate answers; it takes those of VirtualServices.
type TooLongError struct {
	// Field is the field path, Max the length of the longest list that is read.
	Field string
	Max   int
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("decode route: %s has more than %d elements", e.Field, e.Max)
}

// istioList matches the lists of a VirtualService that are read element by element, apart from its rules.
var istioList = regexp.MustCompile(`^/spec/http/\d+/(mirrors|route)$`)

// checkLists returns a *TooLongError for a list that is too long.
func checkLists(raw []byte) error {
	if bytes.Count(raw, []byte(",")) < maxList {
		return nil
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	if unmarshal(raw, &head) != nil {
		return nil //nolint:nilerr // an error that Decode reports
	}
	gateway := strings.HasPrefix(head.APIVersion, GatewayGroup+"/")
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), lenient)
	for {
		if _, err := dec.ReadToken(); err != nil {
			return nil //nolint:nilerr // the end, or an error that Decode reports
		}
		kind, length := dec.StackIndex(dec.StackDepth())
		if kind != '[' || length != maxList+1 {
			continue
		}
		list := dec.StackPointer().Parent()
		if (gateway && strings.HasPrefix(string(list), "/spec/")) || (!gateway && istioList.MatchString(string(list))) {
			return &TooLongError{Field: fieldPath(list), Max: maxList}
		}
	}
}
