package webhook

// Reviews that an attacker would write, and the budget that each keeps from its first byte to its answer.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// hostileSize is the size of a hostile review in bytes.
const hostileSize = 3 << 20

// repeat returns head, as many elements as size has room for, and tail. The elements are separated by commas.
func repeat(size int, head string, element func(i int) string, tail string) string {
	var b strings.Builder
	b.Grow(size)
	b.WriteString(head)
	for i := 0; ; i++ {
		e := element(i)
		if b.Len()+len(e)+len(tail) > size {
			return b.String() + tail
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(e)
	}
}

// always returns an element that is the same everywhere.
func always(element string) func(int) string { return func(int) string { return element } }

// numbered returns an element with its number in the places of %d.
func numbered(format string) func(int) string {
	n := strings.Count(format, "%")
	return func(i int) string { return fmt.Sprintf(format, slices.Repeat([]any{i}, n)...) }
}

// istioObject and gatewayObject return the head of an object up to its spec.
func istioObject(metadata string) string {
	return `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","namespace":"shop"` + metadata + `},"spec":`
}

func gatewayObject(kind string) string {
	return `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"` + kind + `","metadata":{"name":"web","namespace":"shop"},"spec":`
}

// oneMirror is a rule of each kind with a mirror.
const (
	istioMirrorRule   = `{"mirror":{"host":"v2"}}`
	gatewayMirrorRule = `{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}}]}`
)

// hostileObjects are makers of routes of at most size bytes, by what is hostile in them.
var hostileObjects = map[string]func(size int) string{
	"rules, each with a mirror": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(istioMirrorRule), `]}}`)
	},
	"rules, each with a mirror of its own": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"mirror":{"host":"v%d","subset":"s%d"}}`), `]}}`)
	},
	"rules, each with an unused percentage": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(`{"mirrorPercentage":{"value":1}}`), `]}}`)
	},
	"rules that delegate": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"delegate":{"name":"d%d"}}`), `,`+istioMirrorRule+`]}}`)
	},
	"rules of two bytes": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`,`, always(`{}`), `]}}`)
	},
	"mirrors of half a kilobyte": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"mirror":{"host":"v%d","x":"`+strings.Repeat("x", 600)+`"}}`), `]}}`)
	},
	"mirrors of half a kilobyte, each in vain": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"mirror":{"host":"v%d","subset":"`+strings.Repeat("x", 600)+`"},"mirrorPercentage":{"value":101}}`), `]}}`)
	},
	"rules that are null": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`,`, always(`null`), `]}}`)
	},
	"rules of a thousand mirrors": func(n int) string {
		one := `{"mirrors":[` + strings.TrimSuffix(strings.Repeat(`{"destination":{"host":"v2"}},`, 1024), ",") + `]}`
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(one), `]}}`)
	},
	"rules of a thousand mirrors that are wrong": func(n int) string {
		one := `{"mirrors":[` + strings.TrimSuffix(strings.Repeat(`0,`, 1024), ",") + `]}`
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(one), `]}}`)
	},
	"rules of a thousand empty destinations": func(n int) string {
		one := `{"mirror":{"host":"v2"},"route":[` + strings.TrimSuffix(strings.Repeat(`{},`, 1024), ",") + `]}`
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(one), `]}}`)
	},
	"backends and mirrors": func(n int) string {
		var backends, mirrors []string
		for i := range 1024 {
			backends = append(backends, fmt.Sprintf(`{"destination":{"host":"b%d"}}`, i))
			mirrors = append(mirrors, fmt.Sprintf(`{"destination":{"host":"m%d"}}`, i))
		}
		one := `{"route":[` + strings.Join(backends, ",") + `],"mirrors":[` + strings.Join(mirrors, ",") + `]}`
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(one), `]}}`)
	},
	"matches of a rule": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"match":[`, always(`{}`), `]}]}}`)
	},
	"methods of a rule": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"match":[`, always(`{"method":{"exact":"POST"}}`), `]}]}}`)
	},
	"headers of a rule": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"headers":{"request":{"set":{`, numbered(`"h%d":""`), `}}}}]}}`)
	},
	"headers of a rule and of its destinations": func(n int) string {
		headers := `"headers":{"request":{"set":{` + strings.TrimSuffix(strings.Repeat(`"h":"v",`, 100), ",") + `}}}`
		one := `{"mirror":{"host":"v2"},` + headers + `,"route":[{` + headers + `},{` + headers + `}]}`
		i := 0
		for strings.Contains(one, `"h":`) {
			one = strings.Replace(one, `"h":`, fmt.Sprintf(`"h%d":`, i), 1)
			i++
		}
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(one), `]}}`)
	},
	"headers to remove": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"headers":{"request":{"remove":[`, always(`""`), `]}}}]}}`)
	},
	"placeholders without entries": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"headers":{"request":{"remove":[`, numbered(`"x-mirrorgate-parked-%010x"`), `]}}}]}}`)
	},
	"placeholders of a delegate": func(n int) string {
		return repeat(n, istioObject("")+`{"http":[{"mirror":{"host":"v2"},"route":[{"headers":{"request":{"remove":[`, numbered(`"x-mirrorgate-parked-%010x-n-v0"`), `]}}}]}]}}`)
	},
	"mirrors of a delegate": func(n int) string {
		one := `{"route":[{"destination":{"host":"v1"}},{"destination":{"host":"v3"}}],"mirrors":[` +
			strings.TrimSuffix(strings.Repeat(`{"destination":{"host":"v2"}},`, 1024), ",") + `]}`
		return repeat(n, istioObject("")+`{"http":[`, always(one), `]}}`)
	},
	"destinations of a delegate": func(n int) string {
		one := `{"route":[` + strings.TrimSuffix(strings.Repeat(`{"destination":{"host":"v1"}},`, 1024), ",") + `],"mirror":{"host":"v2"}}`
		return repeat(n, istioObject("")+`{"http":[`, always(one), `]}}`)
	},
	"hosts": func(n int) string {
		return repeat(n, istioObject("")+`{"http":[`+istioMirrorRule+`],"hosts":[`, always(`""`), `]}}`)
	},
	"hosts, each another one": func(n int) string {
		return repeat(n, istioObject("")+`{"http":[`+istioMirrorRule+`],"hosts":[`, numbered(`"h%d"`), `]}}`)
	},
	"mirrors and hosts": func(n int) string {
		rest := repeat(n/2, `"http":[`, numbered(`{"mirror":{"host":"v%d"}}`), `]}}`)
		return repeat(n, istioObject("")+`{"hosts":[`, numbered(`"h%d"`), `],`+rest)
	},
	"gateways": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`],"gateways":[`, always(`""`), `]}}`)
	},
	"mirrors and gateways": func(n int) string {
		rest := repeat(n/2, `"http":[`, numbered(`{"mirror":{"host":"v%d"}}`), `]}}`)
		return repeat(n, istioObject("")+`{"hosts":["web"],"gateways":[`, numbered(`"g%d"`), `],`+rest)
	},
	"exportTo": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`],"exportTo":[`, always(`""`), `]}}`)
	},
	"mirrors, gateways and exportTo": func(n int) string {
		gateways := repeat(n/3, `"gateways":[`, numbered(`"n%d/g"`), `],`)
		rest := repeat(n/3, `"http":[`, numbered(`{"mirror":{"host":"v%d","subset":"s"}}`), `]}}`)
		return repeat(n, istioObject("")+`{"hosts":["web"],"exportTo":[`, numbered(`"n%d"`), `],`+gateways+rest)
	},
	"a host of labels": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[{"mirror":{"host":"` + strings.Repeat("a.", n/2-300) + `a","subset":"s"}}]}}`
	},
	"hosts of labels": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"mirror":{"host":"%d.`+strings.Repeat("a.", 120)+`a","subset":"s"}}`), `]}}`)
	},
	"a percentage of digits": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"mirrorPercentage":{"value":0.` + strings.Repeat("1", n-300) + `}}]}}`
	},
	"deep lists": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[` + istioMirrorRule + `],"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}}`
	},
	"many deep lists": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`],"x":[`, always(strings.Repeat("[", 5000)+strings.Repeat("]", 5000)), `]}}`)
	},
	"deep objects": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`],"x":[`, always(strings.Repeat(`{"a":`, 5000)+"1"+strings.Repeat("}", 5000)), `]}}`)
	},
	"deeper than JSON may be": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[` + istioMirrorRule + `],"x":` + strings.Repeat("[", n-300)
	},
	"unknown members": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`],"x":{`, numbered(`"%x":0`), `}}}`)
	},
	"unknown members of the spec": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`],`, numbered(`"%x":0`), `}}`)
	},
	"unknown members of a rule": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},`, numbered(`"%x":0`), `}]}}`)
	},
	"unknown members of a mirror": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2",`, numbered(`"%x":0`), `}}]}}`)
	},
	"numbers": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`+istioMirrorRule+`],"x":[`, always(`0`), `]}}`)
	},
	"a huge string": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[` + istioMirrorRule + `],"x":"` + strings.Repeat("x", n-300) + `"}}`
	},
	"a huge string of escapes": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[` + istioMirrorRule + `],"x":"` + strings.Repeat(`\u0041`, n/6-60) + `"}}`
	},
	"a mirror's host of escapes": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[{"mirror":{"host":"` + strings.Repeat(`\u0041`, n/6-60) + `"}}]}}`
	},
	"invalid UTF-8": func(n int) string {
		return istioObject("") + `{"hosts":["web"],"http":[{"mirror":{"host":"` + strings.Repeat("\xff", n-300) + `"}}]}}`
	},
	"no JSON at the end": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(istioMirrorRule), `]}`)
	},
	"annotations": func(n int) string {
		return repeat(n, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":{"hosts":["web"],"http":[`+istioMirrorRule+`]},"metadata":{"name":"web","annotations":{`, numbered(`"%x":""`), `}}}`)
	},
	"a huge annotation": func(n int) string {
		return istioObject(`,"annotations":{"a":"`+strings.Repeat("x", n-400)+`"}`) + `{"hosts":["web"],"http":[` + istioMirrorRule + `]}}`
	},
	"a huge parked annotation": func(n int) string {
		return istioObject(`,"annotations":{"mirrorgate.dev/parked":"`+strings.Repeat("x", n-400)+`"}`) + `{"hosts":["web"],"http":[` + istioMirrorRule + `]}}`
	},
	"a huge gate": func(n int) string {
		return istioObject(`,"annotations":{"mirrorgate.dev/gate":"`+strings.Repeat("x", n-400)+`"}`) + `{"hosts":["web"],"http":[` + istioMirrorRule + `]}}`
	},
	"parked entries without placeholders": func(n int) string {
		return repeat(n, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":{"hosts":["web"],"http":[`+istioMirrorRule+`]},"metadata":{"name":"web","annotations":{"mirrorgate.dev/parked":"{`,
			numbered(`\"%010x\":{\"stanza\":{\"mirror\":{\"host\":\"v\"}}}`), `}"}}}`)
	},
	"parked entries and placeholders": func(n int) string {
		i := 0
		names := repeat(n/3, `{"hosts":["web"],"http":[{"headers":{"request":{"remove":[`, func(int) string { i++; return fmt.Sprintf(`"x-mirrorgate-parked-%010x"`, i-1) }, `]}}}]}}`)
		return repeat(n, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":`+names[:len(names)-1]+`,"metadata":{"name":"web","annotations":{"mirrorgate.dev/parked":"{`,
			numbered(`\"%010x\":{\"stanza\":{\"mirror\":{\"host\":\"v\"}}}`), `}"}}}`)
	},
	"labels": func(n int) string {
		return repeat(n, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":{"hosts":["web"],"http":[`+istioMirrorRule+`]},"metadata":{"name":"web","labels":{`, numbered(`"%x":""`), `}}}`)
	},
	"managedFields": func(n int) string {
		return repeat(n, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":{"hosts":["web"],"http":[`+istioMirrorRule+`]},"metadata":{"name":"web","managedFields":[`,
			numbered(`{"manager":"m%d","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:http":{}}}}`), `]}}`)
	},
	"owner references": func(n int) string {
		return repeat(n, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":{"hosts":["web"],"http":[`+istioMirrorRule+`]},"metadata":{"name":"web","ownerReferences":[`,
			always(`{}`), `]}}`)
	},
	"owners of tools": func(n int) string {
		return repeat(n, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":{"hosts":["web"],"http":[`+istioMirrorRule+`]},"metadata":{"name":"web","ownerReferences":[`,
			numbered(`{"apiVersion":"flagger.app/v1beta1","kind":"Canary","name":"c%d","uid":"u","controller":true}`), `]}}`)
	},
	"rules of an HTTPRoute": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`, always(gatewayMirrorRule), `]}}`)
	},
	"rules of an HTTPRoute, as many as are read": func(n int) string {
		one := `{"filters":[` + strings.TrimSuffix(strings.Repeat(`{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}},`, 16), ",") + `],` +
			`"backendRefs":[` + strings.TrimSuffix(strings.Repeat(`{"name":"v1","port":80},`, 16), ",") + `]}`
		return repeat(min(n, 1000*(len(one)+1)), gatewayObject("HTTPRoute")+`{"rules":[`, always(one), `]}}`)
	},
	"empty filters": func(n int) string {
		list := `[` + strings.TrimSuffix(strings.Repeat(`{},`, 1000), ",") + `]`
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`+gatewayMirrorRule+`,{"backendRefs":[`, always(`{"filters":`+list+`}`), `]}]}}`)
	},
	"rules of a GRPCRoute": func(n int) string {
		return repeat(n, gatewayObject("GRPCRoute")+`{"rules":[`, always(gatewayMirrorRule), `]}}`)
	},
	"parents": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`+gatewayMirrorRule+`],"parentRefs":[`, always(`{}`), `]}}`)
	},
	"hostnames": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`+gatewayMirrorRule+`],"hostnames":[`, always(`""`), `]}}`)
	},
	"filters of a rule": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[{"filters":[`, always(`{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}}`), `]}]}}`)
	},
	"backends of a rule": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`+gatewayMirrorRule+`,{"backendRefs":[`, always(`{}`), `]}]}}`)
	},
	"matches of an HTTPRoute": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`+gatewayMirrorRule+`,{"matches":[`, always(`{}`), `]}]}}`)
	},
	"placeholders of many rules": func(n int) string {
		one := `{"mirror":{"host":"v2"},"headers":{"request":{"remove":[` + strings.Repeat(`"x-mirrorgate-parked-#",`, 7) + `"x-mirrorgate-parked-#"]}}}`
		i := 0
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, func(int) string {
			rule := one
			for strings.Contains(rule, "#") {
				rule = strings.Replace(rule, "#", fmt.Sprintf("%010x", i), 1)
				i++
			}
			return rule
		}, `]}}`)
	},
	"marks of limited mirrors": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"headers":{"request":{"remove":[`, numbered(`"x-mirrorgate-limited-%010x-v25-f100000"`), `]}}}]}}`)
	},
	"marks of limited mirrors to one target": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[{"mirror":{"host":"v2"},"headers":{"request":{"remove":[`, numbered(`"x-mirrorgate-limited-1544f38658-v25-f%d"`), `]}}}]}}`)
	},
	"rules with a limited mirror": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`,
			numbered(`{"mirror":{"host":"v%d"},"mirrorPercentage":{"value":10},"headers":{"request":{"remove":["x-mirrorgate-limited-%010x-v25-f100000"]}}}`), `]}}`)
	},
	"marks of a GRPCRoute": func(n int) string {
		return repeat(n, gatewayObject("GRPCRoute")+`{"rules":[{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}},`+
			`{"type":"RequestHeaderModifier","requestHeaderModifier":{"remove":[`, numbered(`"x-mirrorgate-limited-%010x-p25-f100000"`), `]}}]}]}}`)
	},
	"placeholders of an HTTPRoute": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}},`+
			`{"type":"RequestHeaderModifier","requestHeaderModifier":{"remove":[`, numbered(`"x-mirrorgate-parked-%010x"`), `]}}]}]}}`)
	},
	"mirrors of backends": func(n int) string {
		one := `{"backendRefs":[` + strings.TrimSuffix(strings.Repeat(`{"name":"v1","port":80,"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}}]},`, 16), ",") + `]}`
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`, always(one), `]}}`)
	},
	"mirrors of an HTTPRoute that are wrong": func(n int) string {
		return repeat(n, gatewayObject("HTTPRoute")+`{"rules":[`, numbered(`{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v%d","namespace":"other","port":80},"percent":101,"fraction":{"numerator":7}}}]}`), `]}}`)
	},
	"delegates with hosts of labels": func(n int) string {
		return repeat(n, istioObject("")+`{"http":[`, numbered(`{"route":[{"destination":{"host":"v1"}}],"mirror":{"host":"%d.`+strings.Repeat("a-", 120)+`a","subset":"s%d"},"mirrorPercentage":{"value":12.5}}`), `]}}`)
	},
	"rules of v1beta1 with deprecated percentages": func(n int) string {
		return repeat(n, strings.Replace(istioObject(""), "/v1", "/v1beta1", 1)+`{"hosts":["web"],"http":[`, numbered(`{"mirror":{"host":"v%d.other"},"mirrorPercent":101,"mirror_percent":7}`), `]}}`)
	},
	"both forms of mirrors": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"mirror":{"host":"v%d"},"mirrors":[{"destination":{"host":"w%d"}}],"redirect":{"uri":"/"}}`), `]}}`)
	},
	"mirrors to their own backends": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"mirror":{"host":"v%d"},"route":[{"destination":{"host":"v%d"}}]}`), `]}}`)
	},
	"a parked annotation of escapes": func(n int) string {
		return istioObject(`,"annotations":{"mirrorgate.dev/parked":"`+strings.Repeat(`\u0061`, n/6-60)+`"}`) + `{"hosts":["web"],"http":[` + istioMirrorRule + `]}}`
	},
	"a parked annotation of small entries": func(n int) string {
		return repeat(min(n, 250<<10), `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":{"hosts":["web"],"http":[`+istioMirrorRule+`]},"metadata":{"name":"web","annotations":{"mirrorgate.dev/parked":"{`,
			numbered(`\"%x\":0`), `}"}}}`)
	},
	"names of rules": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, numbered(`{"name":"r%d\\\"\u0041","mirror":{"host":"v2"}}`), `]}}`)
	},
	"no mirror at all": func(n int) string {
		return repeat(n, istioObject("")+`{"hosts":["web"],"http":[`, always(`{"route":[{"destination":{"host":"v1"}}]}`), `]}}`)
	},
}

// reviewOf returns the body of a review; an update where there is an old object.
func reviewOf(object, old string) []byte {
	kind, group := "VirtualService", "networking.istio.io"
	for _, k := range []string{"HTTPRoute", "GRPCRoute"} {
		if strings.Contains(object[:min(len(object), 200)], k) {
			kind, group = k, "gateway.networking.k8s.io"
		}
	}
	operation := "CREATE"
	if old != "" {
		operation, old = "UPDATE", `,"oldObject":`+old
	}
	return []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","kind":{"group":"` + group + `","version":"v1","kind":"` + kind +
		`"},"name":"web","namespace":"shop","operation":"` + operation + `","userInfo":{},"options":{"fieldManager":"mirrorgate"},"object":` + object + old + `}}`)
}

// hostileReview makes the body of a review, nil for none.
type hostileReview struct {
	name string
	make func() []byte
}

// hostileRequests are reviews whose object is small, by what is hostile in the rest.
var hostileRequests = map[string]func(size int) string{
	"groups of the user": func(n int) string {
		return repeat(n, `"userInfo":{"groups":[`, always(`""`), `]}`)
	},
	"extra fields of the user": func(n int) string {
		return repeat(n, `"userInfo":{"extra":{`, numbered(`"%x":[]`), `}}`)
	},
	"options": func(n int) string {
		return repeat(n, `"options":{`, numbered(`"%x":0`), `}`)
	},
	"unknown fields": func(n int) string {
		return repeat(n, `"x":{`, numbered(`"%x":0`), `}`)
	},
	"a name": func(n int) string { return `"name":"` + strings.Repeat("x", n-10) + `"` },
}

// hostileReviews returns reviews with each of the objects: as a create and, in half the size, as an update of another
// version; once as large as they can be and, where that is not read, once as large as is read.
func hostileReviews() (all []hostileReview) {
	for _, name := range slices.Sorted(maps.Keys(hostileObjects)) {
		object := hostileObjects[name]
		for operation, size := range map[string]int{"create": hostileSize - 400, "update": hostileSize/2 - 400} {
			all = append(all,
				hostileReview{operation + "/" + name, func() []byte { return asReview(operation, object(size)) }},
				hostileReview{operation + "/" + name + ", as much as is read", func() []byte {
					text := widest(object, size)
					if text == "" {
						return nil
					}
					return asReview(operation, text)
				}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(hostileRequests)) {
		all = append(all, hostileReview{"request/" + name, func() []byte {
			object := istioObject("") + `{"hosts":["web"],"http":[` + istioMirrorRule + `]}}`
			return bytes.Replace(reviewOf(object, ""), []byte(`"userInfo":{}`), []byte(hostileRequests[name](hostileSize-400)), 1)
		}})
	}
	return all
}

// widest returns about the largest object of at most size bytes that is not too large to be read, "" if that is the
// one of size bytes.
func widest(object func(int) string, size int) string {
	text := object(size)
	if !tooLong(text) {
		return ""
	}
	for tooLong(text) {
		size /= 2
		text = object(size)
	}
	for step := size / 2; step > size/16; step /= 2 {
		if larger := object(size + step); !tooLong(larger) {
			text, size = larger, size+step
		}
	}
	return text
}

func asReview(operation, object string) []byte {
	if operation == "update" {
		return reviewOf(object, strings.NewReplacer(`"hosts":["web"]`, `"hosts":["wed"]`, `"v2"`, `"w2"`).Replace(object))
	}
	return reviewOf(object, "")
}

func tooLong(object string) bool {
	_, err := route.Decode([]byte(object), route.Options{})
	_, long := errors.AsType[*route.TooLongError](err)
	return long
}

// emptyCluster answers live reads: nothing is there.
type emptyCluster struct{}

func (emptyCluster) Read(context.Context, variant.Query) ([]any, error) { return nil, nil }

// resolving returns the handlers of both stages over an index, behind which there is nothing else.
func resolving(index *variant.Index) http.Handler {
	return handlers(variant.NewResolver(index, emptyCluster{}, func() bool { return true }))
}

func handlers(r resolver) http.Handler {
	mux := muxServer{http.NewServeMux()}
	New(r, Options{}).Register(mux)
	return mux
}

// cost is what one review took.
type cost struct {
	cpu           time.Duration
	bytes, allocs uint64
	status        int
}

// costOf sends a review to one stage.
func costOf(tb testing.TB, gate http.Handler, path string, body []byte) cost {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	w.Body = nil
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := used(tb)
	gate.ServeHTTP(w, r)
	took := used(tb) - start
	runtime.ReadMemStats(&after)
	return cost{cpu: took, bytes: after.TotalAlloc - before.TotalAlloc, allocs: after.Mallocs - before.Mallocs, status: w.Code}
}

// used returns the CPU time of the process.
func used(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHostileReviews measures reviews from the first byte to the answer: CPU time of the process, garbage
// collection included, and allocated memory.
func BenchmarkHostileReviews(b *testing.B) {
	gate := resolving(variant.NewIndex(variant.Options{}))
	for _, review := range hostileReviews() {
		for _, path := range []string{MutatePath, ValidatePath} {
			b.Run(strings.TrimPrefix(path, "/")+"/"+review.name, func(b *testing.B) {
				body := review.make()
				if body == nil {
					b.Skip("it is read as large as it can be")
				}
				var sum cost
				for b.Loop() {
					c := costOf(b, gate, path, body)
					sum.cpu += c.cpu
					sum.bytes += c.bytes
					sum.allocs += c.allocs
				}
				n := float64(b.N)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(sum.cpu.Microseconds())/1000/n, "cpu-ms/op")
				b.ReportMetric(float64(sum.bytes)/n/(1<<20), "alloc-MB/op")
				b.ReportMetric(float64(sum.allocs)/n, "mallocs/op")
			})
		}
	}
}
