// Command picture draws a part of a recorded demo as an SVG of a terminal: make picture records it.
package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The measures of the picture in pixels: those of a character, and the margin around the text.
const (
	characterWidth = 7.25
	lineHeight     = 16
	margin         = 14
	columns        = 56 // so that it can be read on a telephone
)

func main() {
	lines, err := scene(os.Stdin)
	if err == nil {
		err = draw(os.Stdout, lines)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

// scene returns the part of a demo that the picture shows: how the mirror of the HTTPRoute is parked, and how it comes
// back.
func scene(demo io.Reader) (lines []string, err error) {
	in := false
	shown := map[string]bool{" 1 ": true, " 3 ": true}
	show := true
	scanner := bufio.NewScanner(demo)
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.HasPrefix(line, "Document 2 "):
			in = true
			continue
		case in && strings.HasPrefix(line, "━"):
			return trim(lines), nil
		case in && len(line) > 3 && line[0] == ' ' && line[1] >= '1' && line[1] <= '9' && line[2] == ' ':
			show = shown[line[:3]]
		}
		if in && show {
			lines = append(lines, line)
		}
	}
	return nil, fmt.Errorf("the recording does not show the second document: %w", scanner.Err())
}

// trim removes the empty lines around a text.
func trim(lines []string) []string {
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// gap is the space between two columns.
var gap = regexp.MustCompile(`(\S) {4,}(\S)`)

// fold returns a line as lines of the picture's width at most, where its words allow that. The second of two columns, and
// what is left of a long line, stand indented below.
func fold(line string) (lines []string) {
	const indent = "        "
	if left := strings.TrimLeft(line, " "); len(line)-len(left) < len(indent) && left != "" && !strings.HasPrefix(left, "│") {
		line = line[:len(line)-len(left)] + gap.ReplaceAllString(left, "$1\n"+indent+"$2")
	}
	for part := range strings.SplitSeq(line, "\n") {
		for utf8.RuneCountInString(part) > columns {
			end := strings.LastIndexByte(string([]rune(part)[:columns+1]), ' ')
			if end <= len(indent) {
				break
			}
			lines = append(lines, part[:end])
			part = indent + part[end+1:]
		}
		lines = append(lines, part)
	}
	return lines
}

// class returns the style of a line.
func class(line string) string {
	text := strings.TrimSpace(line)
	switch {
	case strings.HasPrefix(text, "│ -"):
		return "out"
	case strings.HasPrefix(text, "│ +"), strings.HasPrefix(text, "✓"):
		return "in"
	case strings.HasPrefix(text, "Warning:"), strings.HasPrefix(line, "      "):
		return "note"
	case strings.HasPrefix(text, "$"):
		return "typed"
	case len(line) > 1 && line[0] == ' ' && line[1] != ' ':
		return "act"
	}
	return "plain"
}

const style = `text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre; fill: #c9d1d9 }
.out { fill: #ff7b72 } .in { fill: #7ee787 } .note { fill: #e3b341 } .typed { fill: #ffffff } .act { fill: #ffffff; font-weight: bold }`

func draw(w io.Writer, lines []string) error {
	var b strings.Builder
	y := margin - 4
	for _, line := range lines {
		for _, part := range fold(line) {
			y += lineHeight
			if part == "" {
				continue
			}
			var text strings.Builder
			if err := xml.EscapeText(&text, []byte(part)); err != nil {
				return err
			}
			fmt.Fprintf(&b, `<text class="%s" x="%d" y="%d" xml:space="preserve">%s</text>`+"\n", class(line), margin, y, text.String())
		}
	}
	width, height := int(columns*characterWidth)+2*margin, y+margin+4
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">
<title>mirrorgate demo: a mirror is parked while its variant is absent, and comes back</title>
<style>
%[3]s
</style>
<rect width="%[1]d" height="%[2]d" rx="8" fill="#0d1117"/>
%[4]s</svg>
`, width, height, style, b.String())
	return err
}
