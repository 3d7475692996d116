package lint

// Comments that ignore findings: # mirrorgate:ignore PortNotFound because the chart adds the port.

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/mirrorgate/mirrorgate/docs/reasons"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/printing"
)

const ignoreMark = "mirrorgate:ignore"

var ignorePattern = regexp.MustCompile(`(?:^|[ \t])#[ \t]*` + ignoreMark + `(?:[ \t]+(\S+))?(?:[ \t]+because\b[ \t]*(.*))?`)

// ignore is one comment.
type ignore struct {
	line, column int
	reason       policy.Reason
	because      string
	// from and to are the lines that it covers.
	from, to int
	// problem is the reason why it ignores nothing, "" when it is complete.
	problem string
	used    bool
}

// ignores finds the comments of a source, outside of texts that hold other files.
func ignores(text []byte, objects []*object) (found []*ignore) {
	if len(objects) == 0 || !bytes.Contains(text, []byte(ignoreMark)) {
		return nil
	}
	lines := bytes.Split(text, []byte("\n"))
	texts := map[int]bool{}
	for _, o := range objects {
		markTexts(o.node, lines, texts)
	}
	for n, line := range lines {
		at := ignorePattern.FindSubmatchIndex(line)
		if at == nil || texts[n] {
			continue
		}
		match := ignorePattern.FindSubmatch(line)
		i := &ignore{line: n + 1, reason: policy.Reason(match[1]), because: strings.TrimSpace(string(match[2]))}
		start := at[0] + bytes.IndexByte(line[at[0]:], '#')
		i.column = utf8.RuneCount(line[:start]) + 1
		i.from, i.to = n+1, n+1
		if len(bytes.TrimSpace(line[:start])) == 0 {
			i.from, i.to = below(lines, n)
		}
		i.check()
		found = append(found, i)
	}
	return found
}

// check sets the problem of a comment.
func (i *ignore) check() {
	known := reasons.All()
	switch {
	case i.reason == "" || i.reason == "because":
		i.problem = "names no reason"
	case !slices.Contains(known, string(i.reason)):
		i.problem = fmt.Sprintf("%q is no reason", printing.Shorten(string(i.reason), 40))
		if near := printing.Nearest(string(i.reason), known); near != "" {
			i.problem += "; " + didYouMean(near)
		}
	case i.because == "":
		i.problem = "does not say why"
	}
}

// below returns the lines of the field or the list element below a line.
func below(lines [][]byte, n int) (from, to int) {
	skip := func(line []byte) bool {
		line = bytes.TrimSpace(line)
		return len(line) == 0 || line[0] == '#'
	}
	indent := func(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }
	isElement := func(line []byte) bool {
		line = bytes.TrimSpace(line)
		return bytes.HasPrefix(line, []byte("- ")) || string(line) == "-"
	}
	first := n + 1
	for first < len(lines) && skip(lines[first]) {
		first++
	}
	if first == len(lines) {
		return n + 1, n + 1
	}
	last, depth := first, indent(lines[first])
	for next := first + 1; next < len(lines); next++ {
		line := lines[next]
		switch {
		case skip(line):
		case indent(line) > depth, indent(line) == depth && isElement(line) && !isElement(lines[first]):
			last = next
		default:
			return first + 1, last + 1
		}
	}
	return first + 1, last + 1
}

// markTexts notes the lines of block scalars, which may hold other files with comments of their own.
func markTexts(node *yamlv3.Node, lines [][]byte, texts map[int]bool) {
	if node.Kind == yamlv3.ScalarNode && node.Style&(yamlv3.LiteralStyle|yamlv3.FoldedStyle) != 0 && node.Line <= len(lines) {
		indent := func(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }
		depth := indent(lines[node.Line-1])
		for n := node.Line; n < len(lines) && (len(bytes.TrimSpace(lines[n])) == 0 || indent(lines[n]) > depth); n++ {
			texts[n] = true
		}
	}
	for _, child := range node.Content {
		markTexts(child, lines, texts)
	}
}

// ignoreFindings moves the findings that comments cover from Findings to Ignored, and adds findings about the
// comments themselves.
func (r *Report) ignoreFindings(comments map[string][]*ignore) {
	kept := r.Findings[:0:0]
	for _, f := range r.Findings {
		covers := func(i *ignore) bool {
			return i.problem == "" && i.reason == f.Reason && i.from <= f.Line && f.Line <= i.to && f.Level != Unreadable
		}
		if n := slices.IndexFunc(comments[f.File], covers); n >= 0 {
			comments[f.File][n].used = true
			f.Because = comments[f.File][n].because
			r.Ignored = append(r.Ignored, f)
		} else {
			kept = append(kept, f)
		}
	}
	for name, list := range comments {
		for _, i := range list {
			f := Finding{File: name, Line: i.line, Column: i.column}
			switch {
			case i.problem != "":
				f.Level, f.Reason, f.Message = Error, IgnoreInvalid, "the comment ignores nothing: it "+i.problem
				f.Remedy = "write # " + ignoreMark + " REASON because …"
				if strings.Contains(i.problem, " is no reason") {
					f.Message = "the comment ignores nothing: " + i.problem
				}
			case !i.used:
				f.Level, f.Reason = Warning, IgnoreUnused
				f.Message = fmt.Sprintf("the comment ignores nothing: there is no finding %s in the lines that it covers (%d to %d)", i.reason, i.from, i.to)
				f.Remedy = "remove it, or move it to the line above the field"
			default:
				continue
			}
			kept = append(kept, f)
		}
	}
	r.Findings = kept
}
