package lint

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Texts that are made to hurt end in a report, in time and memory that grow with their length.
func TestHostileTexts(t *testing.T) {
	route := func(filters string) string {
		return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {rules: [{filters: [" + filters + "]}]}\n"
	}
	mirror := "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 101}},"
	const head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	var bomb strings.Builder
	bomb.WriteString(head + "a0: &a0 [x]\n")
	for i := range 30 {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 9)+fmt.Sprintf("*a%d", i))
	}
	for name, tc := range map[string]struct{ text, want string }{
		"alias bomb":     {bomb.String(), "the aliases of the document stand for more than 100000 values"},
		"long alias":     {head + "a: &a " + strings.Repeat("x", 20_000) + "\nb: [" + strings.Repeat("*a ,", 10_000) + "]\n", "the aliases of the document stand for more than"},
		"merged list":    {head + "a: &a {k: [" + strings.Repeat("1,", 20_000) + "]}\nb: [" + strings.Repeat("{<<: *a},", 5_000) + "]\n", "the aliases of the document stand for more than"},
		"merged nothing": {head + "a: &a [" + strings.Repeat("{},", 2_000) + "]\nb: [" + strings.Repeat("{<<: *a},", 2_000) + "]\n", "the aliases of the document stand for more than 100000 values"},
		"mirrors of a VirtualService": {
			"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{mirrors: [" +
				strings.Repeat("{destination: {host: v2}},", 4353) + "]}]}\n", "PolicyExceeded",
		},
		"deep list":       {strings.Repeat("[", 1<<20), "exceeded max depth of 10000"},
		"deep mapping":    {strings.Repeat(`{"a":`, 1<<20), "exceeded max depth"},
		"deep blocks":     {deepBlocks(3000), "is no Kubernetes object"},
		"NUL":             {"a: \x00\n", "the control character U+0000 is not allowed"},
		"NUL alone":       {strings.Repeat("\x00", 1<<20), "the control character U+0000 is not allowed"},
		"UTF-16":          {"\xff\xfea\x00:\x00", "is no Kubernetes object"},
		"tabs":            {"apiVersion: v1\nkind: List\nitems:\n\t- a\n", "a tab indents the line"},
		"CRLF":            {strings.ReplaceAll(route(mirror), "\n", "\r\n"), "PercentOutOfRange"},
		"CR":              {strings.ReplaceAll(route(mirror), "\n", "\r"), "PercentOutOfRange"},
		"byte order":      {"\ufeff" + route(mirror), "PercentOutOfRange"},
		"many mirrors":    {route(strings.Repeat(mirror, 1000)), "must have at most 16 filters"},
		"long name":       {route(strings.ReplaceAll(mirror, "v2", strings.Repeat("v", 1<<20))), "must have 1 to 253 characters"},
		"long key":        {route(strings.ReplaceAll(mirror, "percent", strings.Repeat("p", 1000))), "UnknownField"},
		"many documents":  {strings.Repeat("---\na: [\n", 20_000), "a bracket is not closed"},
		"many keys":       {route(strings.ReplaceAll(mirror, "percent: 101", manyKeys(20_000))), "UnknownField"},
		"comments":        {route(mirror) + strings.Repeat("# mirrorgate:ignore PercentOutOfRange because x\n", 3000), "IgnoreUnused"},
		"nested comments": {nestedComments(2000), "IgnoreUnused"},
		"one long line": {"{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"VirtualService\", \"metadata\": {\"name\": \"a\"}, \"spec\": {\"hosts\": [\"é\"], \"http\": [" +
			strings.TrimSuffix(strings.Repeat("{\"mirror\": {\"host\": \"v2\"}, \"mirrorPercent\": 5},", 1000), ",") + "]}}", "DeprecatedField"},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Check(t.Context(), Options{}, Source{Name: "f", Text: []byte(tc.text)})
			require.NoError(t, err)
			var out bytes.Buffer
			require.NoError(t, report.WriteText(&out))
			assert.Contains(t, out.String(), tc.want)
			assert.NotContains(t, out.String(), "\x00")
			require.NoError(t, report.WriteSARIF(io.Discard, "1"))
			_, err = report.Fix([]Source{{Name: "f", Text: []byte(tc.text)}})
			require.NoError(t, err)
		})
	}
}

// nestedComments is a block in a block in a block, each below a comment.
func nestedComments(depth int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
	for i := range depth {
		indent := strings.Repeat(" ", i)
		b.WriteString(indent + "# mirrorgate:ignore PercentOutOfRange because x\n" + indent + "a:\n")
	}
	return b.String()
}

func deepBlocks(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func manyKeys(n int) string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%d: 1", i)
	}
	return strings.Join(keys, ", ")
}
