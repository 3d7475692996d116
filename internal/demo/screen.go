package demo

// How a play is printed: in at most 100 columns, with colours only on a terminal that shows them.

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

const width = 100

// screen writes for a reader at a terminal, or of a CI log.
type screen struct {
	w     io.Writer
	color bool
}

// style is an SGR code of a terminal.
type style string

const (
	bold   style = "1"
	faint  style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	strong style = "1;31"
)

func (s *screen) paint(how style, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + string(how) + "m" + text + "\x1b[0m"
}

func (s *screen) line(how style, text string) {
	fmt.Fprintln(s.w, s.paint(how, text))
}

// wrapped writes an indented text, broken at spaces; continuation lines are indented by two more columns.
func (s *screen) wrapped(how style, indent int, text string) {
	for n, line := range wrap(text, width-indent-2) {
		s.line(how, strings.Repeat(" ", indent+min(2*n, 2))+line)
	}
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func (s *screen) document(n, of int, p play) {
	fmt.Fprintln(s.w)
	s.line(bold, strings.Repeat("━", width))
	s.line(bold, fmt.Sprintf("Document %d of %d: %s", n, of, p.title))
	if len(p.documents) > 0 {
		s.block("Two lines of its routing policy are left out, which no API server takes:",
			"// name of the routingpolicy, which is no YAML, and\n"+
				"app.kubernetes.io/component: iter8/routingpolicy, since the value of a label has no slash.")
	}
}

func (s *screen) step(n int, title string, want outcome) {
	fmt.Fprintln(s.w)
	s.line(bold, fmt.Sprintf("%2d  %s → %s", n, upper(title), want))
}

func (s *screen) command(text string) { s.line(faint, "    $ kubectl "+text) }

func (s *screen) waiting(f string, elapsed time.Duration) {
	s.line(faint, fmt.Sprintf("    … %s: %s", elapsed, f))
}

func (s *screen) good(text string) { s.wrapped(green, 2, "✓ "+text) }

func (s *screen) bad(text string) { s.wrapped(strong, 2, "✗ "+text) }

// failed reports why a play ends early.
func (s *screen) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		s.line(yellow, "\nInterrupted.")
	} else {
		s.bad("not seen: " + err.Error())
	}
	return ErrFailed
}

// warning is one of the API server's, which kubectl would print too.
func (s *screen) warning(text string) { s.wrapped(yellow, 4, "Warning: "+text) }

// changes shows a diff in a frame.
func (s *screen) changes(before, after string, lines []string) {
	if len(lines) == 0 {
		return
	}
	s.line(red, "    ┌ --- "+before)
	s.line(green, "    │ +++ "+after)
	for _, line := range lines {
		how := faint
		switch {
		case line == "":
			line = "⋮"
		case line[0] == '-':
			how = red
		case line[0] == '+':
			how = green
		}
		fmt.Fprintln(s.w, "    │ "+s.paint(how, line))
	}
}

func (s *screen) block(title, text string) {
	s.line(bold, "    "+title)
	for line := range strings.Lines(text) {
		depth := 6 + len(line) - len(strings.TrimLeft(line, " "))
		s.wrapped("", depth, line)
	}
}

func upper(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// short writes a duration with two digits or three.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}
