// Package page writes the report of a comparison as one page of HTML: without scripts, without requests to anywhere,
// readable on a phone, in the dark, with a keyboard and with a screen reader.
package page

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/compare"
)

var (
	//go:embed page.html
	text string
	//go:embed page.css
	style string

	// Policy is the content security policy of the page. A server sends it too, since a page cannot forbid frames itself.
	Policy = "default-src 'none'; style-src 'sha256-" + hashOf(style) + "'; img-src data:; base-uri 'none'; form-action 'none'"

	page = template.Must(template.New("page").Funcs(template.FuncMap{
		"percent": percent, "time": utc, "count": count, "plural": plural, "seconds": duration, "meaning": meaning, "chart": newChart, "bar": newBar,
		"policy": func() string { return Policy }, "style": func() template.CSS { return template.CSS(style) }, //nolint:gosec // ours
		"icon": func() template.URL { return "data:," },
	}).Parse(text))
)

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// data is what the template reads.
type data struct {
	*compare.Report
	// Of is the object of the comparison, empty in front of addresses.
	Of string
	// Compared and Drawn are the numbers of requests that were compared, and of all that were copied.
	Compared, Copied uint64
	Reasons          []reason
}

type reason struct {
	Name string
	N    uint64
}

// Write writes the page of a report. of names the object that is compared, like HTTPRoute shop/web.
func Write(w io.Writer, r *compare.Report, of string) error {
	d := data{Report: r, Of: of, Compared: r.Triples + r.Pairs}
	d.Copied = d.Compared
	for name, n := range r.Skipped {
		d.Reasons = append(d.Reasons, reason{name, n})
		d.Copied += n
	}
	slices.SortFunc(d.Reasons, func(a, b reason) int { return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Name, b.Name)) })
	var out bytes.Buffer
	if err := page.Execute(&out, d); err != nil {
		return err
	}
	_, err := w.Write(out.Bytes())
	return err
}

// WriteFile replaces a file by the page of a report.
func WriteFile(name string, r *compare.Report, of string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".compare-*.html")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := Write(f, r, of); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// Coverage returns the share of copied requests that were compared.
func (d data) Coverage() float64 {
	if d.Copied == 0 {
		return 0
	}
	return float64(d.Compared) / float64(d.Copied)
}

// LongBodies returns the number of answers that were compared by length alone.
func (d data) LongBodies() (n uint64) {
	for i := range d.Endpoints {
		n += d.Endpoints[i].Long
	}
	return n
}

// meanings say why requests are not compared.
var meanings = map[string]string{
	compare.SkippedNotDrawn: "not drawn: the control may get no more requests a second",
	compare.SkippedRepeated: "equal to a request that was compared shortly before",
	compare.SkippedQueue:    "too many answers waited to be compared",
	compare.SkippedBudget:   "the answers that wait would need too much memory",
	compare.SkippedPrimary:  "the primary's answer broke off",
	compare.SkippedCopy:     "the variant's copy was not sent: its queue was full, or it is paused",
	compare.SkippedControl:  "the control's copy was not sent: it had enough to do",
}

func meaning(reason string) string {
	if text, known := meanings[reason]; known {
		return text
	}
	if of, is := strings.CutPrefix(reason, "copy_"); is {
		return "a copy was dropped: " + strings.ReplaceAll(of, "_", " ")
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// Meanings returns the reasons that have a text of their own.
func Meanings() []string { return slices.Sorted(maps.Keys(meanings)) }

// percent writes a rate with three digits.
func percent(rate float64) string { return fmt.Sprintf("%.3g%%", 100*rate) }

// count writes a number with spaces between thousands.
func count(n uint64) string {
	digits := fmt.Sprint(n)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteRune('\u202f')
		}
		out.WriteRune(d)
	}
	return out.String()
}

func utc(t time.Time) template.HTML {
	return template.HTML("<time>" + t.UTC().Format("2006-01-02 15:04:05") + "</time>") //nolint:gosec // digits
}

// plural writes a number of things.
func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond).String()
}
