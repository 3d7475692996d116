package route

// Lists that the CRDs of the Gateway API refuse for their length. An object of two bytes takes hundreds in memory
// once it is read as a backend or a filter, so that a route of megabytes could take gigabytes.

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxList is the length of the longest list in the spec of an HTTPRoute or a GRPCRoute that is read. The CRDs allow
// at most 64 elements.
const maxList = 1024

// checkLists returns an error for an HTTPRoute or a GRPCRoute with a list that no CRD allows: the API refuses it,
// whatever mirrorgate answers.
func checkLists(raw []byte) error {
	if bytes.Count(raw, []byte(",")) < maxList {
		return nil
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	if unmarshal(raw, &head) != nil || !strings.HasPrefix(head.APIVersion, GatewayGroup+"/") {
		return nil //nolint:nilerr // another kind, or an error that Decode reports
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), lenient)
	for {
		if _, err := dec.ReadToken(); err != nil {
			return nil //nolint:nilerr // the end, or an error that Decode reports
		}
		kind, length := dec.StackIndex(dec.StackDepth())
		if kind != '[' || length <= maxList {
			continue
		}
		if list := string(dec.StackPointer().Parent()); strings.HasPrefix(list, "/spec/") {
			return fmt.Errorf("decode route: %s has more than %d elements", strings.ReplaceAll(list[1:], "/", "."), maxList)
		}
	}
}
