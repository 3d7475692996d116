package patch

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPointer(t *testing.T) {
	root := Pointer("")
	assert.Equal(t, Pointer("/metadata/annotations/mirrorgate.dev~1parked"), root.Key("metadata").Key("annotations").Key("mirrorgate.dev/parked"))
	assert.Equal(t, Pointer("/a~0b/~01/~1~0/"), root.Key("a~b").Key("~1").Key("/~").Key(""))
	assert.Equal(t, Pointer("/filters/12/-"), root.Key("filters").Index(12).End())
}

func TestApply(t *testing.T) {
	doc := []byte(`{"a":[1,2,3],"n":100.0,"s":"<"}`)
	root := Pointer("")
	for name, tc := range map[string]struct {
		ops  []Operation
		want string
	}{
		"nothing": {nil, `{"a":[1,2,3],"n":100.0,"s":"<"}`},
		"list": {
			[]Operation{Remove(root.Key("a").Index(2)), Remove(root.Key("a").Index(0)), Add(root.Key("a").Index(0), "x"), Add(root.Key("a").End(), json.RawMessage(`1e2`))},
			`{"a":["x",2,1e2],"n":100.0,"s":"<"}`,
		},
		"members": {
			[]Operation{Remove(root.Key("a")), Add(root.Key("n"), nil), Add(root.Key("s"), ""), Add(root.Key("e"), map[string]any{})},
			`{"n":null,"s":"","e":{}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Apply(doc, tc.ops)
			require.NoError(t, err)
			assert.JSONEq(t, tc.want, string(got))
			assert.NotContains(t, string(got), "100,", "numbers stay as they were written")
		})
	}
}

// A patch that the API server refuses must not leave the process.
func TestApplyRefuses(t *testing.T) {
	root := Pointer("")
	for name, op := range map[string]Operation{
		"a missing member":               Remove(root.Key("b")),
		"a missing element":              Remove(root.Key("a").Index(1)),
		"behind the end":                 Add(root.Key("a").Index(2), 1),
		"a missing parent":               Add(root.Key("b").Key("c"), 1),
		"a name as an index":             Add(root.Key("a").Key("x"), 1),
		"a parent that is a number":      Add(root.Key("n").Key("c"), 1),
		"a value of malformed JSON":      Add(root.Key("n"), json.RawMessage(`{`)),
		"a value without a form in JSON": Add(root.Key("n"), func() {}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Apply([]byte(`{"a":[1],"n":5}`), []Operation{op})
			require.Error(t, err)
		})
	}
	_, err := Apply([]byte(`{`), []Operation{Remove(root.Key("a"))})
	require.Error(t, err)
}

// FuzzPointer requires that a pointer made of any name leads to the member with this name, and to no other.
func FuzzPointer(f *testing.F) {
	for _, name := range []string{"", "a", "/", "~", "~0", "~1", "~01", "~~//", "-", "0", "a/b~c", "é\u2028", "\x00", `"\`, "mirrorgate.dev/parked", strings.Repeat("~/", 100)} {
		f.Add(name, "x"+name)
	}
	f.Fuzz(func(t *testing.T, name, other string) {
		name, other = strings.ToValidUTF8(name, "?"), strings.ToValidUTF8(other, "?")
		if name == other {
			return
		}
		pointer := Pointer("").Key("o").Key(name)
		token := strings.TrimPrefix(string(pointer), "/o/")
		assert.NotContains(t, token, "/")
		assert.Equal(t, name, strings.NewReplacer("~1", "/", "~0", "~").Replace(token), "RFC 6901, section 4")

		doc, err := json.Marshal(map[string]any{"o": map[string]any{other: 1}, "l": []int{0}})
		require.NoError(t, err)
		added, err := Apply(doc, []Operation{Add(pointer, []any{}), Add(pointer.Index(0), "v"), Add(pointer.End(), "w")})
		require.NoError(t, err)
		var got struct{ O map[string]any }
		require.NoError(t, json.Unmarshal(added, &got))
		assert.Equal(t, map[string]any{other: 1.0, name: []any{"v", "w"}}, got.O)
		back, err := Apply(added, []Operation{Remove(pointer.Index(1)), Remove(pointer)})
		require.NoError(t, err)
		assert.JSONEq(t, string(doc), string(back))
	})
}
