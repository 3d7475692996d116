package lint

// Comments that ignore findings: # mirrorgate:ignore PortNotFound because the chart adds the port.

import (
	"bytes"
	"cmp"
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

// comments finds the comments of a source, outside of texts that hold other files.
type comments struct {
	// lines are those of the source, nil if it has no such comment.
	lines [][]byte
	// texts are the lines of block scalars.
	texts map[int]bool
	// next is the next line, or len(lines), that is neither blank nor a comment; ends memoizes the last line of the
	// block that begins at a line.
	next []int
	ends map[int]int
}

func newComments(text []byte) *comments {
	c := &comments{texts: map[int]bool{}, ends: map[int]int{}}
	if bytes.Contains(text, []byte(ignoreMark)) {
		c.lines = bytes.Split(text, []byte("\n"))
	}
	return c
}

func (c *comments) ignores() (found []*ignore) {
	for n, line := range c.lines {
		at := ignorePattern.FindSubmatchIndex(line)
		if at == nil || c.texts[n] {
			continue
		}
		match := ignorePattern.FindSubmatch(line)
		i := &ignore{line: n + 1, reason: policy.Reason(match[1]), because: strings.TrimSpace(string(match[2]))}
		start := at[0] + bytes.IndexByte(line[at[0]:], '#')
		i.column = utf8.RuneCount(line[:start]) + 1
		i.from, i.to = n+1, n+1
		if len(bytes.TrimSpace(line[:start])) == 0 {
			i.to = 0 // below
		}
		i.check()
		found = append(found, i)
	}
	for _, i := range slices.Backward(found) { // the blocks inside others first
		if i.to == 0 {
			i.from, i.to = c.below(i.line - 1)
		}
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

func indentOf(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }

func isElement(line []byte) bool {
	line = bytes.TrimSpace(line)
	return bytes.HasPrefix(line, []byte("- ")) || string(line) == "-"
}

// below returns the lines of the field or the list element below a line, counted from 1.
func (c *comments) below(n int) (from, to int) {
	if c.next == nil {
		c.indexLines()
	}
	first := c.next[n]
	if first == len(c.lines) {
		return n + 1, n + 1
	}
	return first + 1, c.end(first) + 1
}

// indexLines fills next.
func (c *comments) indexLines() {
	c.next = make([]int, len(c.lines))
	next := len(c.lines)
	for n := len(c.lines) - 1; n >= 0; n-- {
		c.next[n] = next
		if line := bytes.TrimSpace(c.lines[n]); len(line) > 0 && line[0] != '#' {
			next = n
		}
	}
}

// end returns the last line of the block that begins at a line. A block inside it whose end is known already is
// skipped, so that nested blocks with comments, the innermost first, cost no more than their lines.
func (c *comments) end(first int) int {
	if last, known := c.ends[first]; known {
		return last
	}
	depth, list := indentOf(c.lines[first]), isElement(c.lines[first])
	last := first
	for next := c.next[first]; next < len(c.lines); next = c.next[last] {
		deeper := indentOf(c.lines[next]) > depth
		if !deeper && (indentOf(c.lines[next]) < depth || list || !isElement(c.lines[next])) {
			break
		}
		last = next
		if end, known := c.ends[next]; known && deeper {
			last = end
		}
	}
	c.ends[first] = last
	return last
}

// markTexts notes the lines of block scalars, which may hold other files with comments of their own.
func (c *comments) markTexts(node *yamlv3.Node) {
	if c.lines == nil {
		return
	}
	if node.Kind == yamlv3.ScalarNode && node.Style&(yamlv3.LiteralStyle|yamlv3.FoldedStyle) != 0 && node.Line <= len(c.lines) {
		depth := indentOf(c.lines[node.Line-1])
		for n := node.Line; n < len(c.lines) && (len(bytes.TrimSpace(c.lines[n])) == 0 || indentOf(c.lines[n]) > depth); n++ {
			c.texts[n] = true
		}
	}
	for _, child := range node.Content {
		c.markTexts(child)
	}
}

// covering returns, for findings of one file and reason in the order of their lines, the first comment that covers
// each, nil for none.
func covering(comments []*ignore, lines []int) []*ignore {
	comments = slices.SortedStableFunc(slices.Values(comments), func(a, b *ignore) int { return cmp.Compare(a.from, b.from) })
	found := make([]*ignore, len(lines))
	var open []*ignore
	for n, line := range lines {
		for len(comments) > 0 && comments[0].from <= line {
			open, comments = append(open, comments[0]), comments[1:]
		}
		for len(open) > 0 && open[0].to < line { // no later line is covered by it
			open = open[1:]
		}
		if len(open) > 0 {
			found[n] = open[0]
		}
	}
	return found
}

// covered returns the comment that covers each of the findings, by their index.
func (r *Report) covered(comments map[string][]*ignore) map[int]*ignore {
	type group struct {
		file   string
		reason policy.Reason
	}
	valid := map[group][]*ignore{}
	for name, list := range comments {
		for _, i := range list {
			if g := (group{name, i.reason}); i.problem == "" {
				valid[g] = append(valid[g], i)
			}
		}
	}
	findings := map[group][]int{}
	for n, f := range r.Findings {
		if g := (group{f.File, f.Reason}); f.Level != Unreadable && valid[g] != nil {
			findings[g] = append(findings[g], n)
		}
	}
	covered := map[int]*ignore{}
	for g, indexes := range findings {
		slices.SortStableFunc(indexes, func(a, b int) int { return cmp.Compare(r.Findings[a].Line, r.Findings[b].Line) })
		lines := make([]int, len(indexes))
		for n, index := range indexes {
			lines[n] = r.Findings[index].Line
		}
		for n, by := range covering(valid[g], lines) {
			covered[indexes[n]] = by
		}
	}
	return covered
}

// ignoreFindings moves the findings that comments cover from Findings to Ignored, and adds findings about the
// comments themselves.
func (r *Report) ignoreFindings(comments map[string][]*ignore) {
	kept := r.Findings[:0:0]
	covered := r.covered(comments)
	for n, f := range r.Findings {
		if by := covered[n]; by != nil {
			by.used = true
			f.Because = by.because
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
