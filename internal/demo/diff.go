package demo

import (
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// diff returns the lines of a unified diff without its headers, "" between two hunks; none when nothing
// differs.
func diff(before, after string) []string {
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: slices.Collect(strings.Lines(before)), B: slices.Collect(strings.Lines(after)), Context: 3,
	})
	if err != nil || text == "" { // it writes to memory, which does not fail
		return nil
	}
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		switch {
		case !strings.HasPrefix(line, "@@"):
			lines = append(lines, line)
		case len(lines) > 0:
			lines = append(lines, "")
		}
	}
	return lines
}
