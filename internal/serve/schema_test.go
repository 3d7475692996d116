package serve

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/manifests"
)

var update = flag.Bool("update", false, "rewrite the part of the chart's schema that follows from the options")

const chartSchema = "../../manifests/chart/values.schema.json"

// outside are the options of a process outside a cluster, which an installation refuses.
var outside = []string{"kubeconfig", "context", "webhook-url"}

// bounds are what Validate demands beyond the type, by the path of the option.
var bounds = map[string]map[string]any{
	"certs":                          {"enum": []any{certsAuto, certsCertManager, certsSelf, certsFiles}},
	"failure-policy":                 {"enum": []any{"Fail", "Ignore"}},
	"log-level":                      {"enum": []any{"debug", "info", "warn", "error"}},
	"log-format":                     {"enum": []any{"text", "json"}},
	"routes[]":                       {"enum": []any{manifests.GatewayAPI, manifests.Istio}},
	"workers":                        {"minimum": 1, "maximum": 1000},
	"policy.limits.maxPercent":       {"minimum": 0, "maximum": 100},
	"policy.limits.maxMirrors":       {"minimum": 0},
	"policy.namespaces.*.maxPercent": {"minimum": 0, "maximum": 100},
	"policy.namespaces.*.maxMirrors": {"minimum": 0},
	"proxy.replicas":                 {"minimum": 1, "maximum": objects.MaxReplicas},
	"proxy.maxReplicas":              {"minimum": 0, "maximum": objects.MaxReplicas},
	"proxy.accessLog":                {"enum": []any{"json", "common", "none"}},
	"proxy.proxyProtocol":            {"enum": []any{"in", "out", "in-out", "none"}},
	"proxy.trustedHops":              {"minimum": 0, "maximum": objects.MaxTrustedHops},
}

// schemaOf returns the JSON schema of a type.
func schemaOf(t reflect.Type, at string) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := map[string]any{}
	switch {
	case t == reflect.TypeFor[metav1.Duration]():
		s = map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`}
	case t == reflect.TypeFor[corev1.ResourceRequirements]():
		s["type"] = "object"
	case t.Kind() == reflect.Struct:
		properties := map[string]any{}
		for name, of := range cli.Keys(t) {
			properties[name] = schemaOf(of, strings.TrimPrefix(at+"."+name, "."))
		}
		s = map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	case t.Kind() == reflect.Map:
		s = map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), at+".*")}
	case t.Kind() == reflect.Slice:
		s = map[string]any{"type": "array", "items": schemaOf(t.Elem(), at+"[]")}
	case t.Kind() == reflect.Bool:
		s["type"] = "boolean"
	case t.Kind() == reflect.Float64:
		s["type"] = "number"
	case t.Kind() == reflect.String:
		s["type"] = "string"
	default:
		s["type"] = "integer"
	}
	maps.Copy(s, bounds[at])
	return s
}

// TestTheChartKnowsTheOptions holds the schema of `config` in the chart against the options. With -update it
// writes it.
func TestTheChartKnowsTheOptions(t *testing.T) {
	want := schemaOf(reflect.TypeFor[Options](), "")
	for _, name := range outside {
		delete(want["properties"].(map[string]any), name)
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	require.NoError(t, enc.Encode(want))
	text, err := os.ReadFile(chartSchema)
	require.NoError(t, err)
	lines := strings.Split(string(text), "\n")
	for n, have := range lines {
		if strings.HasPrefix(have, `    "config": `) {
			lines[n] = `    "config": ` + strings.TrimSpace(line.String()) + ","
		}
	}
	generated := strings.Join(lines, "\n")
	if *update {
		require.NoError(t, os.WriteFile(chartSchema, []byte(generated), 0o600))
		return
	}
	require.Equal(t, generated, string(text), "go test ./internal/serve -update writes it")
}

// set sets the option of a path to a value.
func set(t *testing.T, opts *Options, path string, value any) {
	t.Helper()
	names := strings.Split(strings.TrimSuffix(path, "[]"), ".")
	text, isText := value.(string)
	if strings.HasSuffix(path, "[]") {
		value = []string{text}
	} else if !isText {
		value = json.Number(fmt.Sprint(value))
	}
	for _, name := range slices.Backward(names) {
		if name == "*" {
			name = "shop"
		}
		value = map[string]any{name: value}
	}
	raw, err := json.Marshal(value)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, opts), path)
}

// Validate takes the values at the bounds of the table, and refuses those beyond.
func TestBoundsOfTheSchemaAreThoseOfValidate(t *testing.T) {
	try := func(path string, value any) (refused bool) {
		opts := DefaultOptions()
		set(t, opts, path, value)
		return len(opts.Validate()) > 0
	}
	for path, limits := range bounds {
		for keyword, limit := range limits {
			n, _ := limit.(int)
			switch keyword {
			case "minimum":
				require.True(t, try(path, n-1), path)
				require.False(t, try(path, n), path)
			case "maximum":
				require.True(t, try(path, n+1), path)
				require.False(t, try(path, n), path)
			default:
				require.True(t, try(path, "no such value"), path)
				for _, value := range limit.([]any) {
					require.False(t, try(path, value), path)
				}
			}
		}
	}
}

// A duration that the schema takes is one that can be read, and Validate takes no negative one, as the schema.
func TestDurationsOfTheSchema(t *testing.T) {
	pattern := regexp.MustCompile(schemaOf(reflect.TypeFor[metav1.Duration](), "")["pattern"].(string))
	for text, is := range map[string]bool{"10s": true, "1h2m3.5s": true, "0": true, "0s": true, "-1s": false, "1": false, "s": false, "": false, "1d": false} {
		require.Equal(t, is, pattern.MatchString(text), text)
	}
	for name, of := range cli.Keys(reflect.TypeFor[Options]()) {
		if of == reflect.TypeFor[metav1.Duration]() {
			opts := DefaultOptions()
			set(t, opts, name, "-1s")
			require.NotEmpty(t, opts.Validate(), name)
		}
	}
}
