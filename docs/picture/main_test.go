package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const recording = `intro
━━━
Document 1 of 3: a
 1  not this
━━━
Document 2 of 3: b

 1  The mirror is written → no mirror
    $ kubectl apply -f <a> & b
    Warning: X: parked
    │ -  mirror
    │ +  no mirror
  ✓ no mirror

 2  left out
    line
 3  Variant 2 is ready → mirror
  ✓ mirror
━━━
Document 3 of 3: c
`

func TestThePictureShowsTheSecondDocument(t *testing.T) {
	lines, err := scene(strings.NewReader(recording))
	require.NoError(t, err)
	require.Equal(t, []string{
		" 1  The mirror is written → no mirror", "    $ kubectl apply -f <a> & b", "    Warning: X: parked", "    │ -  mirror", "    │ +  no mirror",
		"  ✓ no mirror", "", " 3  Variant 2 is ready → mirror", "  ✓ mirror",
	}, lines)
	var b strings.Builder
	require.NoError(t, draw(&b, lines))
	assert.Contains(t, b.String(), `<text class="typed" x="14" y="42" xml:space="preserve">    $ kubectl apply -f &lt;a&gt; &amp; b</text>`)
	assert.Contains(t, b.String(), `class="out"`)
	_, err = scene(strings.NewReader("nothing"))
	require.Error(t, err)
}

func TestLongLinesAreFolded(t *testing.T) {
	assert.Equal(t, []string{"    left", "        right"}, fold("    left      right"))
	assert.Equal(t, []string{"    │      matches:"}, fold("    │      matches:"), "YAML keeps its form")
	assert.Equal(t, []string{""}, fold(""))
	words := strings.Repeat("word ", 20)
	lines := fold("    " + words)
	require.Len(t, lines, 3)
	for _, line := range lines {
		assert.LessOrEqual(t, len(line), columns)
	}
	assert.Equal(t, []string{"    " + strings.Repeat("x", 90)}, fold("    "+strings.Repeat("x", 90)), "a word stays whole")
}

// The picture of the README is a drawing of a whole recording, and well-formed.
func TestTheRecordedPicture(t *testing.T) {
	raw, err := os.ReadFile("../demo.svg")
	require.NoError(t, err)
	dec := xml.NewDecoder(strings.NewReader(string(raw)))
	for {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	for _, part := range []string{"Warning: WorkloadNotFound: mirror to httpbin-v2:80", "x-mirrorgate-parked-", "✓ mirror, as written"} {
		assert.Contains(t, string(raw), part, "make picture records it again")
	}
}
