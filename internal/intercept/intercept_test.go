package intercept

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

type selector = map[string]string

var (
	http     = ServicePort{Port: 8000, TargetPort: intstr.FromInt32(80)}
	named    = ServicePort{Port: 9000, TargetPort: intstr.FromString("grpc")}
	sentinel = wellknown.Sentinel("httpbin")
)

func service(s selector, recorded string, ports ...ServicePort) *Service {
	if len(ports) == 0 {
		ports = []ServicePort{http}
	}
	return &Service{Name: "httpbin", Selector: s, Annotations: map[string]string{wellknown.SelectorAnnotation: recorded}, Ports: ports}
}

// proxies are pods for a selector and ports.
func proxies(original selector, ports ...ServicePort) []Proxy {
	if len(ports) == 0 {
		ports = []ServicePort{http}
	}
	return []Proxy{{Labels: Sentinels("httpbin", original), Serves: ServesOf(original, ports)}}
}

func TestModes(t *testing.T) {
	own, primary := selector{"app": "httpbin"}, selector{"app": "httpbin", "version": "v1"}
	for name, c := range map[string]struct {
		service *Service
		view    View
		mode    Mode
		want    selector
		why     string
	}{
		"nobody wants it":               {service(own, ""), View{Proxies: proxies(own), Primary: primary}, Own, own, ""},
		"a proxy serves":                {service(own, ""), View{Wanted: true, Proxies: proxies(own), Primary: primary}, Proxied, selector{"app": sentinel}, ""},
		"no proxy is ready":             {service(own, ""), View{Wanted: true, Primary: primary}, Bypass, primary, "no proxy is ready"},
		"no proxy and no primary":       {service(own, ""), View{Wanted: true}, Bypass, own, "no proxy is ready"},
		"a key that no proxy has":       {service(selector{"app": "httpbin", "tier": "web"}, ""), View{Wanted: true, Proxies: proxies(own), Primary: primary}, Bypass, primary, "no ready proxy has all keys of the selector yet"},
		"a key less than the proxies":   {service(selector{"app": "httpbin"}, ""), View{Wanted: true, Proxies: proxies(selector{"app": "", "tier": ""})}, Proxied, selector{"app": sentinel}, ""},
		"a port that no proxy has":      {service(own, "", http, named), View{Wanted: true, Proxies: proxies(own), Primary: primary}, Bypass, primary, "a proxy does not listen for port 9000 yet"},
		"a port that one proxy has":     {service(own, "", http, named), View{Wanted: true, Proxies: append(proxies(own), proxies(own, http, named)...), Primary: primary}, Bypass, primary, "a proxy does not listen for port 9000 yet"},
		"a port that all have":          {service(own, "", http, named), View{Wanted: true, Proxies: proxies(own, named, http)}, Proxied, selector{"app": sentinel}, ""},
		"a port that has gone":          {service(own, "", http), View{Wanted: true, Proxies: proxies(own, named, http)}, Proxied, selector{"app": sentinel}, ""},
		"old proxies without a new key": {service(selector{"app": "x", "tier": "y"}, ""), View{Wanted: true, Proxies: append(proxies(own), proxies(selector{"app": "", "tier": ""})...)}, Proxied, selector{"app": sentinel, "tier": sentinel}, ""},
		"pods that only say they serve": {service(own, ""), View{Wanted: true, Proxies: []Proxy{{Serves: ServesOf(own, []ServicePort{http})}}}, Bypass, own, "no ready proxy has all keys of the selector yet"},
		"no selector at all":            {service(nil, ""), View{Wanted: true, Proxies: proxies(own)}, Own, selector{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(c.service, nil, &c.view)
			assert.Equal(t, c.mode, d.Mode)
			assert.Equal(t, c.want, d.Selector)
			assert.Equal(t, c.why, d.Why)
			assert.Equal(t, maps.Equal(c.want, c.service.Selector), d.Recorded == "", "recorded exactly while it is another: %s", d.Recorded)
		})
	}
}

// client returns the selector that a tool writes for the manifest after, when before was the last it wrote
// and stored is the selector in the cluster.
type client func(before, after, stored selector) selector

var clients = map[string]client{
	// The selector is one field to it.
	"server-side apply": func(_, after, _ selector) selector { return maps.Clone(after) },
	"kubectl replace":   func(_, after, _ selector) selector { return maps.Clone(after) },
	// It writes the keys that differ from the stored ones, and null for keys that have gone.
	"kubectl apply, helm": func(before, after, stored selector) selector {
		out := maps.Clone(stored)
		maps.Copy(out, after)
		maps.DeleteFunc(out, func(key, _ string) bool { return gone(before, after, key) })
		return out
	},
	// It writes the keys that differ from the last manifest.
	"a patch of what changed": func(before, after, stored selector) selector {
		out := maps.Clone(stored)
		for key, value := range after {
			if before[key] != value {
				out[key] = value
			}
		}
		maps.DeleteFunc(out, func(key, _ string) bool { return gone(before, after, key) })
		return out
	},
}

func gone(before, after selector, key string) bool {
	_, was := before[key]
	_, is := after[key]
	return was && !is
}

var edits = map[string]struct{ before, after selector }{
	"nothing":                   {selector{"app": "httpbin"}, selector{"app": "httpbin"}},
	"a value":                   {selector{"app": "httpbin"}, selector{"app": "other"}},
	"a key added":               {selector{"app": "httpbin"}, selector{"app": "httpbin", "tier": "web"}},
	"a key removed":             {selector{"app": "httpbin", "tier": "web"}, selector{"app": "httpbin"}},
	"a key replaced":            {selector{"app": "httpbin"}, selector{"name": "httpbin"}},
	"everything":                {selector{"app": "httpbin", "tier": "web"}, selector{"name": "x", "app": "y"}},
	"nothing of two keys":       {selector{"app": "httpbin", "tier": "web"}, selector{"app": "httpbin", "tier": "web"}},
	"one of two values":         {selector{"app": "httpbin", "tier": "web"}, selector{"app": "httpbin", "tier": "db"}},
	"to the primary's and more": {selector{"app": "httpbin"}, selector{"app": "httpbin", "version": "v2"}},
}

var views = map[string]func(original selector) View{
	"own": func(selector) View { return View{} },
	"proxied": func(s selector) View {
		return View{Wanted: true, Proxies: proxies(s), Primary: selector{"app": "httpbin", "version": "v1"}}
	},
	"bypass to the primary": func(s selector) View {
		primary := selector{"version": "v1"}
		maps.Copy(primary, s)
		return View{Wanted: true, Primary: primary}
	},
	"bypass to a primary without a key": func(selector) View { return View{Wanted: true, Primary: selector{"app": "httpbin", "version": "v1"}} },
	"bypass to a primary of other keys": func(selector) View { return View{Wanted: true, Primary: selector{"version": "v1"}} },
	"bypass to nobody":                  func(selector) View { return View{Wanted: true} },
}

// For every client, edit and mode, the selector that Original returns is the one in the manifest.
func TestEveryClientMeansItsManifest(t *testing.T) {
	// The edits that docs/design/intercept.md lists as unseen. All are patches of single keys in bypass to a
	// primary that lacks a key of the Service: to remove that key changes nothing in the stored selector, and
	// to give the primary's only key another value leaves no value of mirrorgate's.
	unseen := map[string][]string{
		"kubectl apply, helm/bypass to a primary without a key":     {"a key removed", "everything"},
		"a patch of what changed/bypass to a primary without a key": {"a key removed", "everything"},
		"kubectl apply, helm/bypass to a primary of other keys":     {"a key removed", "a key replaced", "everything"},
		"a patch of what changed/bypass to a primary of other keys": {"a key removed", "a key replaced", "everything", "to the primary's and more"},
	}
	seen := 0
	for clientName, write := range clients {
		for editName, edit := range edits {
			for viewName, view := range views {
				for _, annotation := range []string{"kept", "stripped"} {
					t.Run(strings.Join([]string{clientName, editName, viewName, annotation}, "/"), func(t *testing.T) {
						v := view(edit.before)
						first := Decide(service(edit.before, ""), nil, &v)
						stored := service(first.Selector, first.Recorded)
						incoming := service(write(edit.before, edit.after, stored.Selector), first.Recorded)
						if annotation == "stripped" {
							incoming.Annotations = nil
						}
						got, err := Original(incoming, stored, nil)
						require.NoError(t, err)
						if slices.Contains(unseen[clientName+"/"+viewName], editName) {
							seen++
							return
						}
						assert.Equal(t, edit.after, got)
					})
				}
			}
		}
	}
	require.NotZero(t, seen)
}

// A touch, a dry run, reinvocation and the same object applied again: to decide on a decision changes
// nothing. When no proxy is wanted any more, nothing of mirrorgate's is left.
func TestDecidingAgainChangesNothing(t *testing.T) {
	for editName, edit := range edits {
		for from, first := range views {
			for to, second := range views {
				t.Run(fmt.Sprintf("%s from %s to %s", editName, from, to), func(t *testing.T) {
					v, w := first(edit.before), second(edit.before)
					one := Decide(service(edit.before, ""), nil, &v)
					stored := service(one.Selector, one.Recorded)
					two := Decide(stored, stored, &w)
					assert.Equal(t, edit.before, two.Original)
					again := service(two.Selector, two.Recorded)
					assert.Equal(t, two, Decide(again, stored, &w), "reinvoked")
					assert.Equal(t, two, Decide(again, again, &w), "touched")
					last := Decide(again, again, &View{})
					assert.Equal(t, edit.before, last.Selector)
					assert.Empty(t, last.Recorded)
				})
			}
		}
	}
}

func TestLostRecords(t *testing.T) {
	swapped := selector{"app": sentinel}
	v := View{Wanted: true, Proxies: proxies(swapped)}
	d := Decide(service(swapped, ""), nil, &v)
	assert.True(t, d.Lost)
	assert.Equal(t, swapped, d.Selector, "stays as it is")
	assert.Contains(t, d.Why, "recorded nowhere")

	v.Origin = selector{"app": "httpbin"}
	d = Decide(service(swapped, ""), nil, &v)
	assert.False(t, d.Lost, "the origin knows")
	assert.Equal(t, selector{"app": "httpbin"}, d.Original)
	v.Wanted = false
	assert.Equal(t, selector{"app": "httpbin"}, Decide(service(swapped, ""), nil, &v).Selector)

	mixed := Decide(service(selector{"app": "mine", "tier": sentinel}, ""), nil, &v)
	assert.True(t, mixed.Lost, "no origin has that key")
	_, err := Original(service(selector{"app": "mine"}, ""), nil, v.Origin)
	require.NoError(t, err)
}

func TestForgedRecordsAreNone(t *testing.T) {
	good := `{"original":{"app":"httpbin"},"written":{"app":"` + sentinel + `"}}`
	require.NotNil(t, parse(good))
	for name, text := range map[string]string{
		"no JSON": `{`, "a list": `[]`, "null": `null`, "a number": `{"original":1}`, "nothing": `{}`,
		"no original":     `{"written":{"app":"x"}}`,
		"an empty one":    `{"original":{},"written":{"app":"x"}}`,
		"a bad key":       `{"original":{"a b":"x"},"written":{"app":"x"}}`,
		"a bad value":     `{"original":{"app":"x y"},"written":{"app":"x"}}`,
		"a long value":    `{"original":{"app":"` + strings.Repeat("x", 64) + `"},"written":{"app":"x"}}`,
		"a bad written":   `{"original":{"app":"x"},"written":{"app":"/"}}`,
		"a nested object": `{"original":{"app":{"x":"y"}},"written":{"app":"x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			require.Nil(t, parse(text))
			stored := service(selector{"app": sentinel}, good)
			got, err := Original(service(selector{"app": sentinel}, text), stored, nil)
			require.NoError(t, err)
			assert.Equal(t, selector{"app": "httpbin"}, got, "the stored object's counts")
		})
	}
}

// Decide, Stored, Refused and Wants agree about the author's selector of a stored Service.
func TestOneReadingOfARecord(t *testing.T) {
	for name, c := range map[string]struct {
		selector selector
		recorded string
		want     selector
		refused  string
	}{
		"a record without written":     {selector{"app": "a"}, `{"original":{"mirrorgate.dev/x":"y"}}`, selector{"app": "a"}, ""},
		"a record of another selector": {selector{"app": "b"}, `{"original":{"mirrorgate.dev/x":"y"},"written":{"mirrorgate.dev/x":"` + sentinel + `"}}`, selector{"app": "b"}, ""},
		"a record that is in force":    {selector{"mirrorgate.dev/x": sentinel}, `{"original":{"mirrorgate.dev/x":"y"},"written":{"mirrorgate.dev/x":"` + sentinel + `"}}`, selector{"mirrorgate.dev/x": "y"}, "its selector has the key mirrorgate.dev/x, which proxies cannot carry"},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(c.selector, c.recorded)
			assert.Equal(t, c.want, Decide(s, s, &View{}).Original)
			assert.Equal(t, c.want, Stored(s))
			assert.Equal(t, c.refused, Refused(s))
			s.Labels = map[string]string{wellknown.Label: wellknown.Enabled}
			assert.Equal(t, c.refused == "", Wants(s, false, true))
		})
	}
}

// The export of a Service, created under another name: the sentinel is another Service's, and the record has
// the author's selector.
func TestExportUnderAnotherName(t *testing.T) {
	v := View{Wanted: true, Proxies: proxies(selector{"app": "httpbin"})}
	d := Decide(service(selector{"app": "httpbin"}, ""), nil, &v)
	other := service(d.Selector, d.Recorded)
	other.Name = "other"
	assert.Equal(t, selector{"app": "httpbin"}, Decide(other, nil, &View{}).Selector)
}

func TestServes(t *testing.T) {
	s := ServesOf(selector{"b": "", "a": ""}, []ServicePort{named, http, {Port: 81, TargetPort: intstr.FromInt32(80)}})
	assert.Equal(t, Serves{Keys: []string{"a", "b"}, Ports: []Port{{Number: 80}, {Name: "grpc", Number: wellknown.TargetPort(named.Port, named.TargetPort)}}}, s)
	assert.Equal(t, s, ParseServes(s.String()))
	for _, text := range []string{"", "{", "[]", `{"ports":1}`} {
		assert.Equal(t, Serves{}, ParseServes(text), text)
	}
	assert.True(t, s.port(named))
	other := named
	other.TargetPort = intstr.FromString("web")
	assert.False(t, s.port(other))
}

// FuzzDecide checks that to decide on a decision changes nothing, and that without proxies nothing of
// mirrorgate's is left.
func FuzzDecide(f *testing.F) {
	f.Add(`{"app":"httpbin"}`, `{"original":{"app":"httpbin"},"written":{"app":"mirrorgate-httpbin"}}`, `{"version":"v1"}`, true, true)
	f.Add(`{"app":"mirrorgate-httpbin"}`, ``, `{}`, true, false)
	f.Add(`{"app":"httpbin","version":"v1"}`, `{"original":{"app":"httpbin","tier":"x"},"written":{"app":"httpbin","version":"v1"}}`, `{"app":"httpbin","version":"v1"}`, true, false)
	f.Fuzz(func(t *testing.T, in, recorded, primary string, wanted, ready bool) {
		var s, p selector
		if json.Unmarshal([]byte(in), &s) != nil || json.Unmarshal([]byte(primary), &p) != nil {
			return
		}
		v := View{Wanted: wanted, Primary: p}
		if ready {
			v.Proxies = proxies(s)
		}
		d := Decide(service(s, recorded), nil, &v)
		if d.Lost {
			require.Equal(t, s, d.Selector)
			return
		}
		if parse(d.Recorded) == nil && d.Recorded != "" {
			return // a selector that no API server would store
		}
		again := service(d.Selector, d.Recorded)
		require.Equal(t, d, Decide(again, again, &v))
		require.True(t, maps.Equal(d.Original, Stored(again)), "one reading of the record")
		last := Decide(again, again, &View{})
		require.True(t, maps.Equal(d.Original, last.Selector))
		require.Empty(t, last.Recorded)
	})
}
