package manifest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextsAreSplitAtSeparators(t *testing.T) {
	for text, want := range map[string][]chunk{
		"":                         nil,
		"\n---\n---\n\n":           {{[]byte("---\n"), 1}, {[]byte("---\n\n"), 2}},
		"a\n---\nb":                {{[]byte("a\n"), 0}, {[]byte("---\nb"), 1}},
		"a\n--- # c\nb":            {{[]byte("a\n"), 0}, {[]byte("--- # c\nb"), 1}},
		"a\r\n---\r\nb":            {{[]byte("a\r\n"), 0}, {[]byte("---\r\nb"), 1}},
		"a\n---b\n ---\n":          {{[]byte("a\n---b\n ---\n"), 0}},
		"a\n...\nb\n...\n":         {{[]byte("a\n"), 0}, {[]byte("b\n"), 2}},
		"x\n---\nx\n":              {{[]byte("x\n"), 0}, {[]byte("---\nx\n"), 1}},
		"%YAML 1.1\n# c\n---\nx\n": {{[]byte("%YAML 1.1\n# c\n---\nx\n"), 0}},
	} {
		assert.Equal(t, want, split([]byte(text)), "%q", text)
	}
}

// places returns the positions of the nodes of a text with the names a and b.
func places(t *testing.T, text string) (out []string) {
	t.Helper()
	for d := range Parse([]byte(text)) {
		require.Nil(t, d.Err, text)
		for _, name := range []string{"a", "b"} {
			if key, value := Field(d.Node, name); key != nil {
				out = append(out, fmt.Sprintf("%s %d:%d %d:%d", name, key.Line, key.Column, value.Line, value.Column))
			}
		}
	}
	return out
}

func TestPositionsAreThoseOfTheText(t *testing.T) {
	for text, want := range map[string][]string{
		"a: 1\n---\nb:\n  - 2\n":                         {"a 1:1 1:4", "b 3:1 4:3"},
		"{a: {}, b: 'ü'}":                                {"a 1:2 1:5", "b 1:9 1:12"},
		"x: y\r\n---\r\nb: 1\r\n":                        {"b 3:1 3:4"},
		"# c\n{\"a\": \"ü\",\t\"b\":\n [1]}\n{\"b\": 2}": {"a 2:2 2:7", "b 2:12 3:2", "b 4:2 4:7"},
		"\ufeffa: 1":                                     {"a 1:1 1:4"},
	} {
		assert.Equal(t, want, places(t, text), "%q", text)
	}
}

// A document that is parsed again has the same positions.
func TestTreesAreMadeAgain(t *testing.T) {
	for _, text := range []string{"a: 1\n---\nb:\n  - 2\n", "# c\n{\"a\": 1}\n{\"b\":\n 2}"} {
		documents := 0
		for d := range Parse([]byte(text)) {
			documents++
			require.Equal(t, d.Node, d.Tree())
		}
		require.Equal(t, 2, documents)
		for d := range Parse([]byte(text)) {
			require.Equal(t, 1, d.Number, "the first is enough")
			break
		}
	}
}

func TestFaultsAreExplainedWhereTheyAre(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\n b: 2\n":                               "2:2: a colon stands where no key can be",
		"a:\n  b: 1\n c: 2\nd: 1\n":                   "3:2: the line is indented unlike the lines around it",
		"a: 1\nb:\n\t- x\n":                           "3:2: a tab indents the line",
		"a: 1\nb: \"x\nc: 1\n":                        "2:1: a quote is not closed",
		"c: 0\na: [1, 2\nb: 3\n":                      "2:1: a [ is not closed",
		"name:web\nb: 1\n":                            "1:1: a colon must be followed by a space",
		"b: 1\nname:web\n":                            "2:1: a colon must be followed by a space",
		"a: 1\nb: @x\n":                               "2:1: a value cannot begin with this character",
		"a: 1\nb: *x\n":                               "2:4: no anchor &x stands above the alias *x",
		"a: 1\nb: x\x00y\n":                           "2:5: the control character U+0000",
		"a: 1\nb: \xff\n":                             "2:4: the byte 0xff is not UTF-8",
		"a: 1\nb: {{ x }}\n":                          "2:5: a key must be text",
		"a:\n  - b: 1\n  c: 2\n":                      "3:3: the line is indented like an element of the list above",
		"a: [1,\n 2,\n 3]\nb: 1\n c: 2\nd: [1,\n2]\n": "5:2: a colon stands where no key can be",
		"a: &a [*a]\n":                                "1:8: the alias *a is inside the value",
		"a: &a {<<: *a}\n":                            "1:12: a mapping cannot be merged into itself",
		"a: 1\nb: 2\na: 3\n":                          `3:1: key "a" is already set at line 3`,
		"{\n\"a\": 1, \"a\": 2}":                      `2:9: key "a" is set twice`,
		"{\"a\": [":                                   "1:8: the JSON ends too early",
		"{\"a\": 1}\n]":                               "2:1: invalid character",
		"{a: 1}\n{b: 2}\n":                            "2:1: a second value follows the first",
	} {
		documents := slices.Collect(Parse([]byte("x: 1\n---\n" + text)))
		require.Len(t, documents, 2, "%q", text)
		err := documents[1].Err
		require.NotNil(t, err, "%q", text)
		assert.Contains(t, fmt.Sprintf("%d:%d: %s", err.Line-2, err.Column, err.Message), want, "%q", text)
	}
}

// bomb is a document of a few hundred bytes that stands for a billion values.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	return b.String()
}

func TestAliasesAreBounded(t *testing.T) {
	documents := slices.Collect(Parse([]byte(bomb())))
	require.NotNil(t, documents[0].Err)
	assert.Contains(t, documents[0].Err.Message, "the aliases of the document stand for more than")
	assert.Equal(t, []string{`{"a":{"x":1},"b":{"y":2,"x":1},"c":{"y":2,"x":1}}`},
		objects(t, "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: [*b, *a]}"))
}

func TestSingle(t *testing.T) {
	root, faults := Single([]byte("# a\na: 1\na: 2\n"))
	require.Empty(t, faults)
	require.Len(t, root.Content, 4, "a key that is there twice is the reader's to report")
	for text, want := range map[string]string{
		"a: 1\n---\nb: 2\n": "line 2: a second document; a configuration has one",
		"a: 1\n---\nb: [\n": "line 2: a second document; a configuration has one",
		"a: [\n":            "",
	} {
		_, faults := Single([]byte(text))
		require.Len(t, faults, 1, text)
		require.Contains(t, faults[0].Error(), want, text)
	}
	root, faults = Single([]byte("# nothing\n"))
	require.Nil(t, root)
	require.Empty(t, faults)
}
