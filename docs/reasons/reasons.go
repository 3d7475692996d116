// Package reasons holds a page of documentation for each reason that mirrorgate gives, for `mirrorgate
// explain` and for the findings of `mirrorgate lint`.
package reasons

import (
	"embed"
	"slices"
	"strings"
)

//go:embed *.md
var pages embed.FS

// address is where the pages are on the web.
const address = "https://github.com/mirrorgate/mirrorgate/blob/main/docs/reasons/"

// All returns the reasons that have a page, sorted.
func All() []string {
	entries, err := pages.ReadDir(".")
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = strings.TrimSuffix(entry.Name(), ".md")
	}
	slices.Sort(names)
	return names
}

// Page returns the page of a reason in Markdown, and whether there is one.
func Page(reason string) (text string, found bool) {
	raw, err := pages.ReadFile(reason + ".md")
	return string(raw), err == nil
}

// Summary returns the first sentence of a reason's page, "" for an unknown reason.
func Summary(reason string) string {
	text, _ := Page(reason)
	_, text, _ = strings.Cut(text, "\n\n") // below the heading
	text, _, _ = strings.Cut(text, "\n\n")
	return strings.ReplaceAll(text, "\n", " ")
}

// URL returns the address of a reason's page, "" for an unknown reason.
func URL(reason string) string {
	if _, found := Page(reason); !found {
		return ""
	}
	return address + reason + ".md"
}

// Remedy returns the text below "What to do" of a reason's page in one line, "" for an unknown reason.
func Remedy(reason string) string {
	text, _ := Page(reason)
	_, text, _ = strings.Cut(text, "\n## What to do\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return strings.Join(strings.Fields(text), " ")
}
