package manifest

// What is wrong with a YAML text, and where: the parser names the start of a broken block rather than the
// broken line, and speaks of tokens.

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// To locate a fault costs some dozens of parses, so it is done for the first faults of a text and for
// documents of a common size.
const (
	maxLocated   = 10
	maxLocatable = 64 << 10
	// maxFlow is the number of lines after a candidate that are searched for the end of a valid bracket.
	maxFlow = 100
)

// fault is an Error whose position may still have to be located.
type fault struct {
	Error
	located bool
}

var (
	yamlLine    = regexp.MustCompile(`line (\d+): `)
	yamlUnknown = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// plainly are the messages of the parser in plain words.
var plainly = map[string]string{
	"mapping values are not allowed in this context":         "a colon stands where no key can be: the line is indented too far, or a value with a colon lacks quotes",
	"did not find expected key":                              "the line is indented unlike the lines around it, or follows a value that has ended",
	"did not find expected '-' indicator":                    "the line is indented like an element of the list above, and does not begin with a dash",
	"could not find expected ':'":                            "a key must be followed by a colon and a space",
	"did not find expected <document start>":                 "a second value follows the first; put --- between them",
	"did not find expected node content":                     "a value is missing, or a bracket is not closed",
	"did not find expected ',' or ']'":                       "a [ is not closed, or a comma is missing",
	"did not find expected ',' or '}'":                       "a { is not closed, or a comma is missing",
	"found unexpected end of stream":                         "a quote is not closed",
	"found character that cannot start any token":            "a value cannot begin with this character; put it in quotes",
	"block sequence entries are not allowed in this context": "a list cannot begin on the line of its key",
	"found unknown escape character":                         `a backslash in double quotes begins an escape; use single quotes, or \\`,
	"found incompatible YAML document":                       "the directive %YAML must be 1.1",
}

func yamlFault(c chunk, err error) *fault {
	message := strings.ReplaceAll(err.Error(), "yaml: ", "")
	f := &fault{Error: Error{Line: c.above + 1, Column: 1}}
	if at := yamlLine.FindStringSubmatch(message); at != nil {
		n, _ := strconv.Atoi(at[1]) // digits
		f.Line, message = c.above+n, strings.Replace(message, at[0], "", 1)
	}
	f.Message = message
	if name := yamlUnknown.FindStringSubmatch(message); name != nil {
		f.Message = fmt.Sprintf("no anchor &%s stands above the alias *%s", name[1], name[1])
		f.at(c, bytes.Index(c.text, []byte("*"+name[1])))
	} else if plain := plainly[message]; plain != "" {
		f.Message = plain
	}
	f.unprintable(c)
	return f
}

// at sets the position to an offset; a negative one is unknown.
func (f *fault) at(c chunk, offset int) {
	if offset < 0 {
		return
	}
	above := c.text[:offset]
	f.Line = c.above + bytes.Count(above, []byte("\n")) + 1
	f.Column = utf8.RuneCount(above[bytes.LastIndexByte(above, '\n')+1:]) + 1
	f.located = true
}

// unprintable finds the bytes that the parser refuses without saying where.
func (f *fault) unprintable(c chunk) {
	for at := 0; at < len(c.text); {
		r, size := utf8.DecodeRune(c.text[at:])
		switch {
		case r == utf8.RuneError && size == 1:
			f.Message = fmt.Sprintf("the byte 0x%02x is not UTF-8; save the file as UTF-8", c.text[at])
			f.at(c, at)
			return
		case r != '\t' && r != '\n' && r != '\r' && r != '\u0085' && unicode.IsControl(r):
			f.Message = fmt.Sprintf("the control character U+%04X is not allowed", r)
			f.at(c, at)
			return
		}
		at += size
	}
}

// locate finds the line of the fault: the one below the longest beginning of the text that can be parsed.
func (f *fault) locate(c chunk) {
	if f.located || len(c.text) > maxLocatable {
		return
	}
	var ends []int // of the lines
	for at, b := range c.text {
		if b == '\n' {
			ends = append(ends, at+1)
		}
	}
	if len(ends) == 0 || ends[len(ends)-1] < len(c.text) {
		ends = append(ends, len(c.text))
	}
	parses := func(lines int) bool {
		if lines == 0 {
			return true
		}
		_, err := tree(c.text[:ends[lines-1]])
		return err == nil
	}
	good, bad := 0, len(ends)
	for {
		for bad-good > 1 {
			if half := (good + bad) / 2; parses(half) {
				good = half
			} else {
				bad = half
			}
		}
		// The line at which the text stops to parse may open a bracket that is closed further down.
		next := bad + 1
		for next < len(ends) && next < bad+maxFlow && !parses(next) {
			next++
		}
		if next >= len(ends) || next >= bad+maxFlow {
			break
		}
		good, bad = next, len(ends)
	}
	if bad > 1 && gluedColon.Match(lineOf(c.text, ends, bad-1)) {
		bad--
	}
	line := lineOf(c.text, ends, bad)
	if gluedColon.Match(line) {
		f.Message = "a colon must be followed by a space, as in `name: web`"
	}
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	if bytes.Contains(indent, []byte("\t")) {
		f.Message = "a tab indents the line; YAML allows only spaces"
	}
	f.Line, f.Column = c.above+bad, len(indent)+1
}

// gluedColon matches a line like name:web.
var gluedColon = regexp.MustCompile(`^[ \t-]*[A-Za-z][\w.-]*:[^\s/]`)

// lineOf returns a line, counted from 1, of a text whose lines end at these offsets.
func lineOf(text []byte, ends []int, n int) []byte {
	if n == 1 {
		return text[:ends[0]]
	}
	return text[ends[n-2]:ends[n-1]]
}
