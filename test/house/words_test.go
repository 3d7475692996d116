package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// avoided returns the words that CONTEXT.md keeps out of identifiers: those in code quotes in the last column
// of its tables, each with the word to use in its place.
func avoided(t *testing.T) map[string]string {
	t.Helper()
	words := map[string]string{}
	for _, row := range table(t, "CONTEXT.md") {
		for _, word := range quoted.FindAllStringSubmatch(row[len(row)-1], -1) {
			words[word[1]] = strings.Trim(row[0], "*")
		}
	}
	require.NotEmpty(t, words)
	return words
}

func TestAvoidedWordsStayOutOfIdentifiers(t *testing.T) {
	words := avoided(t)
	for _, name := range productFiles(t) {
		for _, part := range parts(strings.TrimSuffix(filepath.Base(name), ".go")) {
			if use, no := words[part]; no {
				t.Errorf("%s: the file's name has the word %q; CONTEXT.md says %q", name, part, use)
			}
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, filepath.Join(root(t), name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, id := range declared(file) {
			for _, part := range parts(id.Name) {
				if use, no := words[part]; no {
					t.Errorf("%s: %s has the word %q; CONTEXT.md says %q", files.Position(id.Pos()), id.Name, part, use)
				}
			}
		}
	}
}

func TestPartsOfIdentifiers(t *testing.T) {
	for name, want := range map[string][]string{
		"HTTPRoute": {"http", "route"}, "frontOfQueue": {"front", "of", "queue"}, "namespace": {"namespace"},
		"request_target": {"request", "target"}, "x": {"x"}, "newH2Front": {"new", "h2", "front"}, "URLs": {"urls"},
	} {
		assert.Equal(t, want, parts(name), name)
	}
}

// productFiles are the Go files of the product: no tests, and nothing below test/ and tools/.
func productFiles(t *testing.T) []string {
	t.Helper()
	files := list(t, "git", "ls-files", "*.go")
	files = slices.DeleteFunc(files, func(name string) bool {
		return strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "tools/") || strings.Contains(name, "/testdata/")
	})
	require.Greater(t, len(files), 100)
	return files
}

// declared returns every identifier that a file declares: its package, types, functions, methods, fields,
// parameters, variables, constants and labels. Names of others' packages are not ours to choose.
func declared(file *ast.File) []*ast.Ident {
	ids := []*ast.Ident{file.Name}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			ids = append(ids, n.Name)
		case *ast.TypeSpec:
			ids = append(ids, n.Name)
		case *ast.ValueSpec:
			ids = append(ids, n.Names...)
		case *ast.Field:
			ids = append(ids, n.Names...)
		case *ast.LabeledStmt:
			ids = append(ids, n.Label)
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				ids = appendIdents(ids, n.Lhs...)
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				ids = appendIdents(ids, n.Key, n.Value)
			}
		}
		return true
	})
	return ids
}

func appendIdents(ids []*ast.Ident, expressions ...ast.Expr) []*ast.Ident {
	for _, e := range expressions {
		if id, ok := e.(*ast.Ident); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// parts returns the words of an identifier or of a file's name, in lower case.
func parts(name string) []string {
	var words []string
	runes, start := []rune(name), 0
	cut := func(end int) {
		if end > start {
			words = append(words, strings.ToLower(string(runes[start:end])))
		}
		start = end
	}
	for i, r := range runes {
		switch {
		case r == '_' || r == '.' || r == '-':
			cut(i)
			start = i + 1
		case !unicode.IsUpper(r) || i == 0:
		case !unicode.IsUpper(runes[i-1]): // aB
			cut(i)
		case i+1 < len(runes) && unicode.IsLower(runes[i+1]) && string(runes[i+1:]) != "s": // the B of ABc
			cut(i)
		}
	}
	cut(len(runes))
	return words
}

// stumbles are phrases at which a native reader stumbles.
var stumbles = regexp.MustCompile(`\b((says|tells) whether|at leisure|of the moment|of what|what of|who has come|whoever)\b`)

func TestCommentsHaveNoPhrasesThatAReaderStumblesOver(t *testing.T) {
	for _, name := range list(t, "git", "ls-files", "*.go") {
		if strings.Contains(name, "/testdata/") || strings.HasPrefix(name, "test/house/") {
			continue
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, filepath.Join(root(t), name), nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, group := range file.Comments {
			for _, phrase := range stumbles.FindAllString(strings.Join(strings.Fields(group.Text()), " "), -1) {
				t.Errorf("%s: %q in a comment; name the noun, and say `reports whether`", files.Position(group.Pos()), phrase)
			}
		}
	}
}
