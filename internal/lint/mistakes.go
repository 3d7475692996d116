package lint

// Mistakes that people make with mirrors, and the remedies for them.

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// copiesAll ends the remedies of shares in the wrong place: removed, or dropped by the API server, they leave a
// mirror that copies everything.
const copiesAll = "; without it everything is mirrored, so do not just remove it"

const (
	besideMirror = "it belongs one level up, beside mirror: mirrorPercentage: {value: PERCENT}" + copiesAll
	inElement    = "an element of mirrors has percentage: {value: PERCENT}" + copiesAll
	inFilter     = "it belongs inside requestMirror, beside backendRef" + copiesAll
	upInFilter   = "it belongs one level up, beside backendRef" + copiesAll
	inBackendRef = "it belongs inside backendRef"
	inDest       = "it belongs inside destination"
	hostDirectly = "write host, subset and port directly under mirror; only an element of mirrors has a destination"
	inHost       = "write the namespace into the host: host: NAME.NAMESPACE.svc.cluster.local"
	asPercent    = "write percent: PERCENT" + copiesAll
)

// The fields that people write in places where they do not belong.
var (
	misplacedInDestination = map[string]string{
		"mirrorPercentage": besideMirror, "mirrorPercent": besideMirror, "mirror_percent": besideMirror, "mirror_percentage": besideMirror,
		"percentage": besideMirror, "percent": besideMirror, "weight": besideMirror, "value": besideMirror,
		"destination": hostDirectly, "namespace": inHost, "name": "write host: NAME", "service": "write host: NAME",
	}
	misplacedInMirrors = map[string]string{
		"host": inDest, "subset": inDest, "port": inDest,
		"mirrorPercentage": inElement, "mirrorPercent": inElement, "percent": inElement, "weight": inElement, "value": inElement,
		"mirror_percent": inElement, "mirror_percentage": inElement,
	}
	misplacedBesideMirror = map[string]string{
		"percentage": "write mirrorPercentage: {value: PERCENT}" + copiesAll, "percent": "write mirrorPercentage: {value: PERCENT}" + copiesAll,
	}
	misplacedInPercentage = map[string]string{"percent": "write value: PERCENT", "percentage": "write value: PERCENT", "number": "write value: PERCENT"}
	misplacedInFilter     = map[string]string{
		"name": inBackendRef, "port": inBackendRef, "namespace": inBackendRef, "kind": inBackendRef, "group": inBackendRef,
		"backendRefs": "a filter mirrors to one backendRef; write a filter for each", "service": "write backendRef: {name: NAME, port: PORT}",
		"host": "write backendRef: {name: NAME, port: PORT}", "destination": "write backendRef: {name: NAME, port: PORT}",
		"percentage": asPercent, "mirrorPercentage": asPercent, "mirrorPercent": asPercent, "weight": asPercent,
		"numerator": "it belongs inside fraction" + copiesAll, "denominator": "it belongs inside fraction",
	}
	misplacedInBackendRef = map[string]string{
		"percent": upInFilter, "fraction": upInFilter, "weight": "a mirror has no weight; write percent: PERCENT beside backendRef" + copiesAll,
		"percentage": "write percent: PERCENT beside backendRef" + copiesAll, "host": "write name: NAME", "service": "write name: NAME",
	}
	misplacedBesideFilter = map[string]string{
		"percent": inFilter, "fraction": inFilter, "percentage": inFilter, "backendRef": "it belongs inside requestMirror",
	}
)

// gatewayFilters are the fields of a filter. The first two are those of a mirror.
var gatewayFilters = []string{
	"type", "requestMirror", "requestHeaderModifier", "responseHeaderModifier", "requestRedirect", "urlRewrite", "cors", "externalAuth", "extensionRef",
}

// istioRuleFields are the fields of a rule of a VirtualService, apart from those of mirrors.
var istioRuleFields = []string{
	"name", "match", "route", "redirect", "directResponse", "delegate", "rewrite", "timeout", "retries", "fault", "corsPolicy", "headers",
}

func insteadOfPercentage(value any) string {
	if n, ok := asNumber(value); ok {
		return "write {value: " + n + "}"
	}
	return ""
}

func insteadOfPort(value any) string {
	if n, ok := asNumber(value); ok {
		return "write {number: " + n + "}"
	}
	return ""
}

func insteadOfDestination(value any) string {
	switch value := value.(type) {
	case string:
		return "write {host: " + value + "}"
	case []any:
		return "a list of mirrors belongs in mirrors: [{destination: {host: …}, percentage: {value: PERCENT}}]"
	}
	return ""
}

func insteadOfBackendRef(value any) string {
	switch value := value.(type) {
	case string:
		name, port, found := strings.Cut(value, ":")
		if !found {
			port = "PORT"
		}
		return "write {name: " + name + ", port: " + port + "}"
	case []any:
		return "a filter mirrors to one backendRef; write a filter for each"
	}
	return ""
}

func insteadOfFraction(value any) string {
	s, _ := value.(string)
	if numerator, denominator, found := strings.Cut(s, "/"); found {
		return "write {numerator: " + numerator + ", denominator: " + denominator + "}"
	}
	return ""
}

// insteadOfNumber returns the remedy for a number in quotes or with a percent sign, and for a share that is
// no whole number.
func insteadOfNumber(value any, form *numbers) string {
	if s, ok := value.(string); ok {
		if n, ok := asNumber(strings.TrimSpace(strings.TrimSuffix(s, "%"))); ok {
			return "write " + n + ", without quotes or a percent sign"
		}
		return ""
	}
	n, ok := value.(json.Number)
	if !ok || form.fractions || form.max != 100 {
		return ""
	}
	f, _ := n.Float64()
	for scale := 1; scale <= 10_000; scale *= 10 {
		if part := f * float64(scale); part > 0 && f < 100 && part == float64(int(part)) {
			return fmt.Sprintf("write fraction: {numerator: %d, denominator: %d} (in a VirtualService mirrorPercentage: {value: %s})", int(part), 100*scale, n)
		}
	}
	return ""
}

// asNumber returns a number, or a text that is one, as it is written.
func asNumber(value any) (string, bool) {
	text := ""
	switch value := value.(type) {
	case json.Number:
		text = value.String()
	case string:
		text = value
	}
	_, err := strconv.ParseFloat(text, 64)
	return text, err == nil
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return "did you mean " + name + "?"
}
