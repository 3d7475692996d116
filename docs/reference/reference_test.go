package reference

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type sample struct {
	// Name is the name | of it.
	Name string `json:"name"`
	Flag bool   `json:"flag"`
	// Inner are more keys.
	Inner map[string][]inner `json:"inner"`
	Not   string             `json:"-"`
}

type inner struct {
	// N counts.
	N *int `json:"n"`
}

// explained stands for the source of sample, whose package's tests are not read.
var explained = map[string]map[string]string{"docs/reference": {"sample.Name": "Name is the name | of it.", "sample.Inner": "Inner are more keys.", "inner.N": "N counts."}}

func TestTableOfKeys(t *testing.T) {
	k := &Keys{Root: "../..", Help: map[string]string{}}
	_, err := k.Table(reflect.TypeFor[sample]())
	require.ErrorContains(t, err, "explains name, flag, inner, inner.*[].n", "comments of tests are not read")
	k.Help["flag"] = "a flag"
	k.comments = explained
	rows := ""
	k.walk(reflect.TypeFor[sample](), "", func(key, kind, meaning string) { rows += row("`"+key+"`", kind, meaning) })
	assert.Equal(t, "| `name` | text | The name \\| of it. |\n| `flag` | true or false | a flag |\n"+
		"| `inner` | map, list, keys | More keys. |\n| `inner.*[].n` | whole number | N counts. |\n", rows)
	assert.Contains(t, read("."), "Keys.Root")
}

func TestTableOfMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirrorgate_bytes_total", Help: `Says "b".`}, []string{"x", "y"}),
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "mirrorgate_a", Help: "A."}), prometheus.NewGauge(prometheus.GaugeOpts{Name: "go_a", Help: "Go's."}))
	table, err := Metrics(registry)
	require.NoError(t, err)
	assert.Equal(t, "| metric | labels | meaning |\n|---|---|---|\n| `mirrorgate_a` |  | A. |\n| `mirrorgate_bytes_total` | `x`, `y` | Says \"b\". |\n", table)
}

func TestAStalePageIsAnError(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	require.ErrorIs(t, Hold(page, "new", false), os.ErrNotExist)
	require.NoError(t, Hold(page, "old", true))
	require.ErrorContains(t, Hold(page, "new", false), "is not that of the program")
	require.NoError(t, Hold(page, "old", false))
}
