package compareserve

// The report as one page: no script, no request to anywhere, readable on a phone and in the dark.

import (
	_ "embed"
	"html/template"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/compare"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"percent": percent,
	"time":    func(t time.Time) string { return t.UTC().Format(time.DateTime) },
	"reasons": func(skipped map[string]uint64) []string { return slices.Sorted(maps.Keys(skipped)) },
	"x":       func(rate float64) float64 { return 2 + 156*rate },
	"width":   func(from, to float64) float64 { return max(1, 156*(to-from)) },
}).Parse(pageText))

// WritePage writes the page of a report.
func WritePage(w io.Writer, r *compare.Report) error { return page.Execute(w, r) }

// writePage replaces a file by the page of a report.
func writePage(name string, r *compare.Report) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".compare-*.html")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := WritePage(f, r); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
