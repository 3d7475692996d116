// Package reference makes the pages of this folder that follow from the program, for the tests that hold the pages against
// it: metrics from the collectors that are registered, and the keys of files from the structs that they are read into.
package reference

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

const module = "github.com/mirrorgate/mirrorgate/"

// described matches the text of a prometheus.Desc, which has no other way to its parts.
var described = regexp.MustCompile(`^Desc\{fqName: "(.*?)", help: "(.*?)"(?:, unit: ".*?")?, constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)

// Metrics returns the table of the metrics of mirrorgate's that a collector has, a registry for instance.
func Metrics(collector prometheus.Collector) (string, error) {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		collector.Describe(descs)
	}()
	var rows []string
	var bad error
	for desc := range descs {
		parts := described.FindStringSubmatch(desc.String())
		if parts == nil {
			bad = fmt.Errorf("a metric whose description has another form: %s", desc)
			continue
		}
		if !strings.HasPrefix(parts[1], "mirrorgate_") { // of Go and of libraries
			continue
		}
		var labels []string
		for label := range strings.SplitSeq(parts[3], ",") {
			if label = strings.TrimSpace(label); label != "" {
				labels = append(labels, "`"+label+"`")
			}
		}
		help, err := strconv.Unquote(`"` + parts[2] + `"`)
		if err != nil {
			bad = err
		}
		rows = append(rows, row("`"+parts[1]+"`", strings.Join(labels, ", "), help))
	}
	slices.Sort(rows)
	return "| metric | labels | meaning |\n|---|---|---|\n" + strings.Join(slices.Compact(rows), ""), bad
}

func row(cells ...string) string {
	for i := range cells {
		cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// Hold compares a page of this folder with its generated text. With update it writes the page.
func Hold(path, text string, update bool) error {
	if update {
		return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // pages are public
	}
	have, err := os.ReadFile(path)
	if err == nil && string(have) != text {
		err = fmt.Errorf("%s is not that of the program: run go test -update in the folder of this test", path)
	}
	return err
}

// Keys walks the struct that a file is read into.
type Keys struct {
	// Root is the folder of the repository.
	Root string
	// Help has the meanings of keys that are also flags.
	Help map[string]string
	// Opaque are the types that are read from a text or have a description elsewhere, with their names.
	Opaque map[reflect.Type]string

	comments map[string]map[string]string // by package, then by type and field
}

// Table returns the table of all keys of a struct. The error names the keys that nothing explains.
func (k *Keys) Table(t reflect.Type) (string, error) {
	k.comments = map[string]map[string]string{}
	var rows, bare []string
	k.walk(t, "", func(key, kind, meaning string) {
		if meaning == "" {
			bare = append(bare, key)
		}
		rows = append(rows, row("`"+key+"`", kind, meaning))
	})
	if len(bare) > 0 {
		return "", fmt.Errorf("neither a comment nor a flag explains %s", strings.Join(bare, ", "))
	}
	return "| key | type | meaning |\n|---|---|---|\n" + strings.Join(rows, ""), nil
}

func (k *Keys) walk(t reflect.Type, at string, add func(key, kind, meaning string)) {
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" || !field.IsExported():
			continue
		case name == "" && field.Anonymous:
			k.walk(field.Type, at, add)
			continue
		case name == "":
			continue
		}
		key := strings.TrimPrefix(at+"."+name, ".")
		meaning := k.Help[key]
		if meaning == "" {
			meaning = k.comment(t, field.Name)
		}
		of, kind, suffix := k.element(field.Type)
		add(key, kind, meaning)
		if of.Kind() == reflect.Struct && k.Opaque[of] == "" {
			k.walk(of, key+suffix, add)
		}
	}
}

// element returns the type of the values of a field, its name, and the part of a key that stands for one of several.
func (k *Keys) element(t reflect.Type) (of reflect.Type, kind, suffix string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case k.Opaque[t] != "":
		return t, k.Opaque[t], ""
	case t.Kind() == reflect.Slice:
		of, kind, suffix = k.element(t.Elem())
		return of, "list, " + kind, "[]" + suffix
	case t.Kind() == reflect.Map:
		of, kind, suffix = k.element(t.Elem())
		return of, "map, " + kind, ".*" + suffix
	case t.Kind() == reflect.Struct:
		return t, "keys", ""
	}
	names := map[reflect.Kind]string{
		reflect.Bool: "true or false", reflect.String: "text", reflect.Float64: "number",
		reflect.Int: "whole number", reflect.Int32: "whole number", reflect.Int64: "whole number", reflect.Uint16: "whole number",
	}
	if names[t.Kind()] == "" {
		panic(fmt.Sprintf("%s has no name in the reference", t))
	}
	return t, names[t.Kind()], ""
}

// comment returns the comment of a field in the source.
func (k *Keys) comment(t reflect.Type, field string) string {
	folder, ours := strings.CutPrefix(t.PkgPath(), module)
	if !ours {
		return ""
	}
	if k.comments[folder] == nil {
		k.comments[folder] = read(filepath.Join(k.Root, folder))
	}
	text := k.comments[folder][t.Name()+"."+field]
	for _, verb := range []string{" is ", " are "} { // "Image is the image" begins with the name in Go, which the key repeats
		if rest, begins := strings.CutPrefix(text, field+verb); begins {
			text = strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	return text
}

// read returns the comments of all fields of the structs in a folder.
func read(folder string) map[string]string {
	comments := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(folder, "*.go")) // the pattern is valid
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ParseComments)
		if err != nil {
			continue
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			spec, is := node.(*ast.TypeSpec)
			if !is {
				return true
			}
			structure, is := spec.Type.(*ast.StructType)
			if !is {
				return true
			}
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					comments[spec.Name.Name+"."+name.Name] = oneLine(field.Doc.Text() + " " + field.Comment.Text())
				}
			}
			return true
		})
	}
	return comments
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
