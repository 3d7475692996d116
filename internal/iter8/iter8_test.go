package iter8

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

var update = flag.Bool("update", false, "rewrite golden files")

// source reads a ConfigMap of testdata.
func source(t testing.TB, raw []byte) Source {
	t.Helper()
	var cm struct {
		Metadata struct {
			Name   string
			Labels map[string]string
		}
		Data map[string]string
	}
	require.NoError(t, yaml.Unmarshal(raw, &cm))
	return Source{Namespace: "shop", Name: cm.Metadata.Name, Labels: cm.Metadata.Labels, Data: cm.Data}
}

func read(t testing.TB, file string) (Document, error) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	doc, errs := Read(source(t, raw))
	return doc, errs.ToAggregate()
}

func TestTutorialsSubjectAndPolicy(t *testing.T) {
	doc, err := read(t, "testdata/subject.yaml")
	require.NoError(t, err)
	require.Equal(t, &Subject{Owner: "httpbin", Variants: [][]Resource{
		{{"svc", "httpbin-v1", "spec.variants[0][0]"}, {"deploy", "httpbin-v1", "spec.variants[0][1]"}},
		{{"svc", "httpbin-v2", "spec.variants[1][0]"}, {"deploy", "httpbin-v2", "spec.variants[1][1]"}},
	}}, doc.Subject)

	doc, err = read(t, "testdata/policy.yaml")
	require.NoError(t, err)
	require.Equal(t, "httpbin", doc.Policy.Owner)
	require.Equal(t, 2, doc.Policy.Variant)
	golden(t, "testdata/policy.with.golden.yaml", doc.Policy.Route("shop"))
	without := doc.Policy.Route("shop")
	WithoutMirrors(without, func(path string) bool { return path == "spec.rules[0].filters[0].requestMirror" })
	golden(t, "testdata/policy.without.golden.yaml", without)
	golden(t, "testdata/policy.with.golden.yaml", doc.Policy.Route("shop"))
}

func golden(t *testing.T, file string, value any) {
	t.Helper()
	have, err := yaml.Marshal(value)
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(file, have, 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(have))
}

// Every YAML file of testdata/wrong is an invalid ConfigMap; the golden file beside it has a line for each
// error.
func TestErrorsNameFieldValueAndRemedy(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			var have strings.Builder
			_, errs := Read(source(t, raw))
			for _, err := range errs {
				fmt.Fprintln(&have, err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden.txt"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(have.String()), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.NotEmpty(t, want)
			assert.Equal(t, string(want), have.String())
		})
	}
}

func TestVersionsOfTheChart(t *testing.T) {
	for version, right := range map[string]bool{
		"0.14.x": true, "0.14.X": true, "0.14.*": true, "0.14.0": true, "0.14.17": true, "v0.14.3": true, "~0.14.1": true, "0.14": true,
		"0.15.x": false, "0.140.0": false, "0.1": false, "1.0.14": false, "latest": false, ">=0.14.0": false, "0.14.x.y": false,
	} {
		text := "trigger: {owner: a, update: variant/1}\nchart: mirror\nversion: " + version + "\nvalues: {rules: [{}]}"
		if strings.HasPrefix(version, ">") {
			text = strings.Replace(text, version, "'"+version+"'", 1)
		}
		_, errs := Read(Source{Data: map[string]string{"spec": text}})
		assert.Equal(t, right, len(errs) == 0, "%s: %v", version, errs)
	}
}

func TestSpecThatIsTooLongIsNotRead(t *testing.T) {
	_, errs := Read(Source{Data: map[string]string{"spec": strings.Repeat("#\n", maxSpec)}})
	require.ErrorContains(t, errs.ToAggregate(), `data[spec]: Too long: may not be more than 262144 bytes`)
}

func TestSubjectWithoutComponentHasTheNameOfItsConfigMap(t *testing.T) {
	doc, errs := Read(Source{Name: "a", Data: map[string]string{"spec": "gvrs: [svc]\nvariants: [[a]]"}})
	require.Empty(t, errs)
	require.Equal(t, "a", doc.Subject.Owner)
}

func TestVersionWithoutResourcesIsOneThatIsAlwaysReady(t *testing.T) {
	read := func(text string) *Routemap {
		doc, errs := Read(Source{Namespace: "shop", Name: "a", Labels: map[string]string{KindLabel: KindRoutemap}, Data: map[string]string{"strSpec": text}})
		require.Empty(t, errs, text)
		return doc.Routemap
	}
	deploy := []Resource{{"deploy", "web-1", "spec.versions[1].resources[0]"}}
	for _, first := range []string{"", "{}", "{resources: []}", "{resources: }", "{weight: 1, resources: []}"} {
		m := read("versions:\n- " + first + "\n- resources: [{gvrShort: deploy, name: web-1}]\n  weight: 7\n")
		require.Equal(t, []Version{{Weight: 1}, {Weight: 7, Resources: deploy}}, m.Versions, first)
		require.Empty(t, m.Templates, "routingTemplates may be missing")
	}
	require.Empty(t, read("versions: [{}]\nroutingTemplates:\n").Templates)
	require.Empty(t, read("versions: [{}]\nroutingTemplates: {}\n").Templates)
}

func TestMirrorsAreRemovedFromEveryField(t *testing.T) {
	object := func() map[string]any {
		var o map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(`
spec:
  rules:
  - filters: [{type: RequestMirror}, {type: RequestHeaderModifier}, {type: RequestMirror}]
    backendRefs: [{name: a, filters: [{type: RequestMirror}]}, {name: b}]
  - filters: [{type: RequestMirror}]
  http:
  - {mirror: {host: a}, mirrorPercentage: {value: 5}, mirror_percent: 5, timeout: 1s}
  - {mirrors: [{destination: {host: a}}, {destination: {host: b}}]}
`), &o))
		return o
	}
	for path, want := range map[string]string{
		"spec.rules[0].filters[2].requestMirror":                "filters:\n    - type: RequestMirror\n    - type: RequestHeaderModifier\n",
		"spec.rules[0].filters[1].requestMirror":                "",
		"spec.rules[0].backendRefs[0].filters[0].requestMirror": "- backendRefs:\n    - name: a\n    - name: b\n",
		"spec.rules[1].filters[0].requestMirror":                "- {}\n",
		"spec.http[0].mirror":                                   "- timeout: 1s\n",
		"spec.http[1].mirrors[0]":                               "- mirrors:\n    - destination:\n        host: b\n",
	} {
		o := object()
		WithoutMirrors(o, func(p string) bool { return p == path })
		text, err := yaml.Marshal(o)
		require.NoError(t, err)
		if want == "" {
			require.Equal(t, object(), o, path)
			continue
		}
		assert.Contains(t, string(text), want, path)
		assert.NotEqual(t, object(), o)
	}
	o := object()
	WithoutMirrors(o, func(string) bool { return true })
	text, err := yaml.Marshal(o)
	require.NoError(t, err)
	assert.NotContains(t, strings.ToLower(string(text)), "mirror")
}

func routemap(t *testing.T, template string) (*Routemap, error) {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{
		"versions":         []any{map[string]any{}, map[string]any{"weight": 25}, map[string]any{}},
		"routingTemplates": map[string]any{"mirror": map[string]any{"gvrShort": "httproute", "template": template}},
	})
	require.NoError(t, err)
	doc, errs := Read(Source{
		Namespace: "shop", Name: "web", Labels: map[string]string{KindLabel: KindRoutemap},
		Data: map[string]string{"strSpec": string(text)},
	})
	return doc.Routemap, errs.ToAggregate()
}

func TestWeights(t *testing.T) {
	doc, err := read(t, "testdata/routemap.yaml")
	require.NoError(t, err)
	m := doc.Routemap
	seven, zero := uint32(7), uint32(0)
	for _, c := range []struct {
		ready     []bool
		annotated []*uint32
		want      []uint32
	}{
		{[]bool{true, true}, []*uint32{nil, nil}, []uint32{1, 100}},
		{[]bool{true, false}, []*uint32{nil, nil}, []uint32{1, 0}},
		{[]bool{false, false}, []*uint32{nil, nil}, []uint32{1, 0}},
		{[]bool{true, true}, []*uint32{nil, &seven}, []uint32{1, 7}},
		{[]bool{true, false}, []*uint32{nil, &seven}, []uint32{1, 0}},
		{[]bool{true, true}, []*uint32{&zero, &zero}, []uint32{1, 0}},
	} {
		assert.Equal(t, c.want, m.Weights(c.ready, c.annotated), "%+v", c)
	}
	for weights, file := range map[[2]uint32]string{{1, 100}: "with", {1, 0}: "without"} {
		object, invalid := m.Render(&m.Templates[0], weights[:])
		require.Nil(t, invalid)
		golden(t, "testdata/routemap."+file+".golden.yaml", object)
	}
}

func TestWeightOfAnAnnotation(t *testing.T) {
	w, err := ParseWeight("7")
	require.NoError(t, err)
	require.Equal(t, uint32(7), w)
	for _, text := range []string{"", "-1", "7.5", "4294967296", "much"} {
		_, err := ParseWeight(text)
		require.ErrorContains(t, err, "must be a whole number from 0", text)
	}
}

// hostile are templates that never end or make too much text, with the errors that end them.
var hostile = map[string]struct {
	text string
	want error
}{
	"a range over a huge number":   {`{{range 9000000000000000000}}{{end}}`, errSteps},
	"ranges in ranges":             {strings.Repeat(`{{range 1000}}`, 20) + strings.Repeat(`{{end}}`, 20), errSteps},
	"an else branch that ranges":   {`{{range 0}}{{else}}{{range 9000000000000000000}}{{end}}{{end}}`, errSteps},
	"a condition that ranges":      {`{{if false}}{{else if true}}{{with 1}}{{range 9000000000000000000}}{{end}}{{end}}{{end}}`, errSteps},
	"a range that goes on":         {`{{range 9000000000000000000}}{{continue}}{{end}}`, errSteps},
	"a recursion":                  {`{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, errSteps},
	"a recursion by block":         {`{{block "a" .}}{{template "a" .}}{{end}}`, errSteps},
	"calls that double":            {doubling(), errSteps},
	"a text that doubles":          {`{{$x := "0123456789"}}{{range 60}}{{$x = printf "%s%s" $x $x}}{{end}}`, errText},
	"a text that doubles by print": {`{{$x := "0123456789"}}{{range 60}}{{$x = print $x $x}}{{end}}`, errText},
	"a text that html multiplies":  {`{{$x := "&"}}{{range 9000}}{{$x = html $x}}{{end}}`, errText},
	"a wide printf":                {`{{printf "%1000000d" 1}}`, errFormat},
	"a printf of a given width":    {`{{printf "%*d" 999999 1}}`, errFormat},
	"a printf of many verbs":       {`{{printf "` + strings.Repeat("%d", maxVerbs+1) + `" 1}}`, errFormat},
	"an argument that is too long": {`{{printf "%.1s" "` + strings.Repeat("#", maxText+1) + `"}}`, errText},
	"a print of many":              {`{{print` + strings.Repeat(" 1", maxVerbs+1) + `}}`, errText},
	"too much output":              {`{{range 9000}}` + strings.Repeat("#", 100) + `{{end}}`, errOutput},
}

func doubling() string {
	var b strings.Builder
	fmt.Fprint(&b, `{{define "t0"}}{{end}}`)
	for i := range 60 {
		fmt.Fprintf(&b, `{{define "t%d"}}{{template "t%d"}}{{template "t%d"}}{{end}}`, i+1, i, i)
	}
	return b.String() + `{{template "t60"}}`
}

func TestHostileTemplatesEnd(t *testing.T) {
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			p, err := compile("t", c.text)
			require.NoError(t, err)
			_, err = p.run(values{Weights: []uint32{1, 2}}, stopped)
			require.ErrorIs(t, err, c.want)
		})
	}
}

// stopped is a clock that does not move, so that a slow machine reaches the other limits first.
func stopped() time.Time { return time.Unix(1000, 0) }

func TestTemplateEndsAfterTheTimeLimit(t *testing.T) {
	p, err := compile("t", `{{range 9000}}{{end}}`)
	require.NoError(t, err)
	_, err = p.run(values{}, stopped)
	require.NoError(t, err)
	steps := 0
	_, err = p.run(values{}, func() time.Time { steps++; return time.Unix(1000, 0).Add(time.Duration(steps) * time.Millisecond) })
	require.ErrorIs(t, err, errTime)
	require.InDelta(t, maxTime.Milliseconds(), steps, 2)
}

func TestTemplatesReachNothingOutside(t *testing.T) {
	for text, want := range map[string]string{
		`{{env "HOME"}}`:           `function "env" not defined`,
		`{{lookup "v1" "Secret"}}`: `function "lookup" not defined`,
		`{{countStep}}`:            `function "countStep" not defined`,
		`{{include "a" .}}`:        `function "include" not defined`,
	} {
		_, err := compile("t", text)
		require.ErrorContains(t, err, want)
	}
	for text, want := range map[string]string{
		`{{.Data}}`:                               "can't evaluate field Data",
		`{{index .Weights 7}}`:                    "index out of range: 7",
		`{{template "nowhere"}}`:                  `template "nowhere" not defined`,
		`{{call .Name}}`:                          "non-function",
		`{{slice .Name 3 1}}`:                     "invalid slice index",
		`{{range $i := .Weights}}{{$i.A}}{{end}}`: "can't evaluate field A",
	} {
		p, err := compile("t", text)
		require.NoError(t, err)
		_, err = p.run(values{Weights: []uint32{1}, Name: "web"}, stopped)
		require.ErrorContains(t, err, want)
	}
}

func TestTextIsNotEscapedAsHTML(t *testing.T) {
	p, err := compile("t", `a: "<{{.Name}}> & '{{index .Weights 0}}'"`)
	require.NoError(t, err)
	text, err := p.run(values{Name: "a&b", Weights: []uint32{1}}, stopped)
	require.NoError(t, err)
	require.Equal(t, `a: "<a&b> & '1'"`, text)
}

func TestResultOfATemplateMustBeARouteOfItsNamespace(t *testing.T) {
	const head = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
	for text, want := range map[string]string{
		"a: [":       "its result is not YAML",
		"a: 1\na: 2": `key "a" already set in map`,
		"text":       "is no object",
		"kind: Secret\napiVersion: v1\nmetadata: {name: a}":                                       `makes a "Secret" of "v1", its gvrShort is HTTPRoute of gateway.networking.k8s.io`,
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {}": `its gvrShort is HTTPRoute`,
		head + "spec: {}": `metadata.name ""`,
		head + "metadata: {name: a, namespace: other}\nspec: {}":                        `namespace "other": must be "shop"`,
		head + "metadata: {name: a}":                                                    "without a spec",
		head + "metadata: {name: a, annotations: {mirrorgate.dev/parked: x}}\nspec: {}": "mirrorgate.dev/parked, which mirrorgate sets",
	} {
		m, err := routemap(t, text)
		require.NoError(t, err, text)
		_, invalid := m.Render(&m.Templates[0], []uint32{1, 2, 3})
		require.NotNil(t, invalid, text)
		require.ErrorContains(t, invalid, want)
		require.ErrorContains(t, invalid, "spec.routingTemplates[mirror].template")
	}
	m, err := routemap(t, "{{if false}}a{{end}}\n")
	require.NoError(t, err)
	object, invalid := m.Render(&m.Templates[0], []uint32{1, 2, 3})
	require.Nil(t, invalid)
	require.Nil(t, object)
	m, err = routemap(t, head+"metadata: {name: a, namespace: shop, uid: x, finalizers: [a], ownerReferences: [{}], labels: {a: b}}\nspec: {}\nstatus: {}")
	require.NoError(t, err)
	object, invalid = m.Render(&m.Templates[0], []uint32{1, 2, 3})
	require.Nil(t, invalid)
	require.Equal(t, map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": map[string]any{},
		"metadata": map[string]any{"name": "a", "namespace": "shop", "labels": map[string]any{"a": "b"}},
	}, object)
}

// requireRemovable removes every mirror that route.Decode finds, and requires that it finds none afterwards.
func requireRemovable(t *testing.T, object map[string]any) {
	t.Helper()
	decode := func() map[string]bool {
		raw, err := json.Marshal(object)
		require.NoError(t, err)
		rt, err := route.Decode(raw, route.Options{})
		if err != nil {
			return nil // the API server refuses such a route
		}
		seen := map[string]bool{}
		for _, m := range rt.Every {
			seen[m.Path] = true
		}
		return seen
	}
	found := decode()
	WithoutMirrors(object, func(path string) bool { return found[path] })
	require.Empty(t, decode())
}

func FuzzRead(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/wrong/*.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(f, err)
			s := source(f, raw)
			f.Add(s.Data["spec"], false)
			f.Add(s.Data["strSpec"], true)
		}
	}
	const values = "trigger: {owner: a, update: variant/2}\nchart: mirror\nversion: 0.14.x\nvalues: "
	for _, text := range []string{
		`{rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b}}}, {type: RequestMirror}]}]}`,
		`{rules: [{backendRefs: [{name: a, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b}, percent: 5}}]}]}]}`,
		`{rules: [{filters: [{type: RequestMirror, requestMirror: 7}, {type: Other, requestMirror: {backendRef: {name: b}}}]}]}`,
	} {
		f.Add(values+text, false)
	}
	for _, c := range hostile {
		f.Add("versions: [{}]\nroutingTemplates: {a: {gvrShort: vs, template: '"+strings.ReplaceAll(c.text, "'", "''")+"'}}", true)
	}
	f.Fuzz(func(t *testing.T, spec string, routemap bool) {
		from := Source{Namespace: "shop", Name: "a", Data: map[string]string{"spec": spec, "strSpec": spec}}
		if routemap {
			from.Labels = map[string]string{KindLabel: KindRoutemap}
		}
		doc, errs := Read(from)
		if len(errs) > 0 {
			for _, err := range errs {
				require.NotEmpty(t, err.Field)
			}
			return
		}
		switch {
		case doc.Policy != nil:
			require.NotEmpty(t, doc.Policy.Owner)
			requireRemovable(t, doc.Policy.Route("shop"))
		case doc.Subject != nil:
			require.NotEmpty(t, doc.Subject.Variants)
		default:
			weights := doc.Routemap.Weights(make([]bool, len(doc.Routemap.Versions)), make([]*uint32, len(doc.Routemap.Versions)))
			require.Equal(t, uint32(1), weights[0])
			for i := range doc.Routemap.Templates {
				object, invalid := doc.Routemap.Render(&doc.Routemap.Templates[i], weights)
				if invalid == nil && object != nil {
					require.Equal(t, "shop", object["metadata"].(map[string]any)["namespace"])
					requireRemovable(t, object)
				}
			}
		}
	})
}
