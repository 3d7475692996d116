package house

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rows are the folders that CONTRIBUTING.md's layout table names.
func rows(t *testing.T) map[string]bool {
	t.Helper()
	folders := map[string]bool{}
	for _, row := range table(t, "CONTRIBUTING.md") {
		names := quoted.FindAllStringSubmatch(row[0], -1)
		require.NotEmpty(t, names, "a row of CONTRIBUTING.md's layout table names no folder: %v", row)
		require.Greater(t, len(row), 1)
		require.NotEmpty(t, row[1], "the row of %s describes nothing", row[0])
		for _, name := range names {
			require.False(t, folders[name[1]], "%s has two rows", name[1])
			folders[name[1]] = true
		}
	}
	return folders
}

func TestLayoutTableNamesFoldersThatExist(t *testing.T) {
	for folder := range rows(t) {
		info, err := os.Stat(filepath.Join(root(t), folder))
		if assert.NoError(t, err, "CONTRIBUTING.md names a folder that is not there") {
			assert.True(t, info.IsDir(), "%s is no folder", folder)
		}
	}
}

// A package has a row of its own, or is below one that has.
func TestEveryPackageIsInTheLayoutTable(t *testing.T) {
	folders := rows(t)
	for _, name := range list(t, "git", "ls-files", "*.go") {
		folder := path.Dir(name)
		at := folder
		for at != "." && !folders[at] {
			at = path.Dir(at)
		}
		// internal/ holds many rooms; a new one needs a row.
		assert.False(t, at == "." || at == "internal" && strings.HasPrefix(folder, "internal/"), "%s has no row in CONTRIBUTING.md's layout table", folder)
	}
}
