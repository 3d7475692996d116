package iter8

// Templates of untrusted authors: they end whatever they contain, and reach nothing outside. Go's templates
// end by themselves only when their data does, so every definition and every iteration of a range counts a
// step, and the functions that make texts are limited.

import (
	"errors"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

// The limits of one execution.
const (
	maxSteps  = 10_000 // a recursion needs about 2 KB of stack for each step
	maxTime   = 200 * time.Millisecond
	maxOutput = 256 << 10
	// maxText is the size in bytes of a text that a function may take or make.
	maxText = 16 << 10
	// maxVerbs is the number of values that one call of printf may print.
	maxVerbs = 64
)

var (
	errSteps  = fmt.Errorf("does not end within %d steps", maxSteps)
	errTime   = fmt.Errorf("does not end within %s", maxTime)
	errOutput = fmt.Errorf("makes more than %d bytes", maxOutput)
	errText   = fmt.Errorf("makes a text of more than %d bytes on the way", maxText)
	errFormat = fmt.Errorf("has a printf whose format is longer than 1024 bytes, has more than %d verbs, or a width of more than three digits", maxVerbs)
)

// values is the data of a template.
type values struct {
	// Weights are those of the versions, in the order of the routemap.
	Weights []uint32
	// Name and Namespace are those of the routemap.
	Name, Namespace string
}

// program is a template that can be executed.
type program struct{ parsed *template.Template }

// stepName is the function that counts. It is unknown while a template is parsed, so that no action can call
// it.
const stepName = "countStep"

// functions replaces the functions of the library that make texts.
func functions(step func() (string, error)) template.FuncMap {
	bounded := func(format func(args ...any) string) func(args ...any) (string, error) {
		return func(args ...any) (string, error) {
			size := 0
			for _, arg := range args {
				if text, ok := arg.(string); ok {
					size += len(text)
				}
			}
			if size > maxText || len(args) > maxVerbs {
				return "", errText
			}
			if text := format(args...); len(text) <= maxText {
				return text, nil
			}
			return "", errText
		}
	}
	printf := func(format string, args ...any) (string, error) {
		if len(format) > 1024 || strings.Count(format, "%") > maxVerbs || width.MatchString(format) {
			return "", errFormat
		}
		return bounded(func(args ...any) string { return fmt.Sprintf(format, args...) })(args...)
	}
	return template.FuncMap{
		stepName: step, "printf": printf,
		"print":    bounded(fmt.Sprint),
		"println":  bounded(fmt.Sprintln),
		"html":     bounded(func(args ...any) string { return html.EscapeString(fmt.Sprint(args...)) }),
		"js":       bounded(func(args ...any) string { return template.JSEscapeString(fmt.Sprint(args...)) }),
		"urlquery": bounded(func(args ...any) string { return url.QueryEscape(fmt.Sprint(args...)) }),
	}
}

// width matches the width of a verb that would print a long text for a short value.
var width = regexp.MustCompile(`[0-9]{4}|\*`)

// compile parses a template and adds the steps.
func compile(name, text string) (program, error) {
	t, err := template.New(name).Option("missingkey=zero").Funcs(names).Parse(text)
	if err != nil {
		return program{}, errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	for _, each := range t.Templates() {
		if each.Tree != nil && each.Root != nil {
			count(each.Root)
			countIn(each.Root)
		}
	}
	return program{t}, nil
}

// names are the functions for parsing a template, which needs only their names.
var names = func() template.FuncMap {
	known := functions(nil)
	delete(known, stepName)
	return known
}()

// countIn adds a step to every iteration of the ranges below a node.
func countIn(node parse.Node) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, each := range n.Nodes {
				countIn(each)
			}
		}
	case *parse.RangeNode:
		count(n.List)
		countIn(n.List)
		countIn(n.ElseList)
	case *parse.IfNode:
		countIn(n.List)
		countIn(n.ElseList)
	case *parse.WithNode:
		countIn(n.List)
		countIn(n.ElseList)
	}
}

// count adds a step at the start of a list.
func count(list *parse.ListNode) {
	step := &parse.ActionNode{NodeType: parse.NodeAction, Pos: list.Pos, Pipe: &parse.PipeNode{
		NodeType: parse.NodePipe, Pos: list.Pos, Cmds: []*parse.CommandNode{{
			NodeType: parse.NodeCommand, Pos: list.Pos, Args: []parse.Node{parse.NewIdentifier(stepName).SetPos(list.Pos)},
		}},
	}}
	list.Nodes = append([]parse.Node{step}, list.Nodes...)
}

// run executes the template. It ends with an error when a limit is reached.
func (p program) run(data values, now func() time.Time) (string, error) {
	if p.parsed == nil {
		return "", errors.New("is not parsed")
	}
	t, err := p.parsed.Clone() // each execution has functions of its own
	if err != nil {
		return "", err
	}
	steps, end := 0, now().Add(maxTime)
	t.Funcs(functions(func() (string, error) {
		if steps++; steps > maxSteps {
			return "", errSteps
		}
		if now().After(end) {
			return "", errTime
		}
		return "", nil
	}))
	var out limited
	if err := t.Execute(&out, data); err != nil {
		for _, limit := range []error{errSteps, errTime, errOutput, errText, errFormat} {
			if errors.Is(err, limit) {
				return "", limit
			}
		}
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	return out.String(), nil
}

// limited fails when more than maxOutput bytes are written.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxOutput {
		return 0, errOutput
	}
	return l.Builder.Write(p)
}
