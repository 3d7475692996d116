// Command picture draws a part of a recorded demo as an SVG of a terminal: make picture records it.
package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
)

// The measures of the picture in pixels: those of a character, and the margin around the text.
const (
	characterWidth = 7.25
	lineHeight     = 16
	margin         = 14
	columns        = 100
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
	width, height := int(columns*characterWidth)+2*margin, len(lines)*lineHeight+2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", width, height)
	fmt.Fprintf(&b, "<title>mirrorgate demo: a mirror is parked while its variant is absent, and comes back</title>\n<style>\n%s\n</style>\n", style)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="#0d1117"/>`+"\n", width, height)
	for n, line := range lines {
		if line == "" {
			continue
		}
		var text strings.Builder
		if err := xml.EscapeText(&text, []byte(line)); err != nil {
			return err
		}
		fmt.Fprintf(&b, `<text class="%s" x="%d" y="%d" xml:space="preserve">%s</text>`+"\n", class(line), margin, margin+(n+1)*lineHeight-4, text.String())
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
