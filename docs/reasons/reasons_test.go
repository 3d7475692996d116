package reasons

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// declared returns the values of the exported constants of type Reason in a folder.
func declared(t *testing.T, folder string) (reasons []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || !isReason(spec.Type) {
				return true
			}
			for i, value := range spec.Values {
				literal, ok := value.(*ast.BasicLit)
				if !ok || !spec.Names[i].IsExported() {
					continue
				}
				text, err := strconv.Unquote(literal.Value)
				require.NoError(t, err)
				reasons = append(reasons, text)
			}
			return true
		})
	}
	return reasons
}

func isReason(expr ast.Expr) bool {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr.Name == "Reason"
	case *ast.SelectorExpr:
		return expr.Sel.Name == "Reason"
	}
	return false
}

func TestEveryReasonHasAPage(t *testing.T) {
	policy, lint := declared(t, "../../internal/policy"), declared(t, "../../internal/lint")
	require.Greater(t, len(policy), 25)
	require.GreaterOrEqual(t, len(lint), 5)
	reasons := slices.Concat(policy, lint)
	slices.Sort(reasons)
	assert.Equal(t, reasons, All())
}

func TestPagesHaveOneForm(t *testing.T) {
	for _, reason := range All() {
		page, _ := Page(reason)
		assert.True(t, strings.HasPrefix(page, "# "+reason+"\n\n"), reason)
		assert.Contains(t, page, "\n## What to do\n\n", reason)
		assert.True(t, strings.HasSuffix(Summary(reason), "."), reason)
		assert.LessOrEqual(t, len(Summary(reason)), 110, reason)
		assert.Equal(t, address+reason+".md", URL(reason))
	}
	assert.Empty(t, URL("None"))
	assert.Empty(t, Summary("../reasons"))
}
