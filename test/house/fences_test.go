package house

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Where the linter sees the direct imports of a package, these fences hold for all that it reaches.
var (
	// clients are the ways to the network: who reaches one of them is not pure.
	clients = []string{"net/http", "k8s.io/client-go/", "sigs.k8s.io/controller-runtime"}

	fences = map[string][]string{
		"patch":              clients,
		"internal/route":     clients,
		"internal/policy":    clients,
		"internal/limits":    clients,
		"internal/intercept": clients,
		"internal/wellknown": clients,
		"internal/iter8":     clients,
		"internal/compare":   append([]string{"net", "os/exec", "os/signal"}, clients...),
		"internal/proxy/...": {"k8s.io/", "sigs.k8s.io/"},
		"webhook":            {module + "/internal/dataplane", module + "/internal/proxy"},
	}
)

func TestFencesHoldForEverythingThatAPackageReaches(t *testing.T) {
	for pattern, forbidden := range fences {
		t.Run(pattern, func(t *testing.T) {
			reached := list(t, "go", "list", "-deps", "./"+pattern)
			require.NotEmpty(t, reached)
			for _, path := range reached {
				assert.False(t, beyond(path, forbidden), "%s reaches %s; `go list -deps -f '{{.ImportPath}} {{.Imports}}' ./%s` shows the way", pattern, path, pattern)
			}
		})
	}
}

// A comparison is told the time, so that a simulation can run days of it.
func TestComparisonsReadNoClock(t *testing.T) {
	for _, name := range productFiles(t) {
		if filepath.Dir(name) != "internal/compare" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root(t), name))
		require.NoError(t, err)
		assert.NotRegexp(t, `\btime\.(Now|Since|Until|After|AfterFunc|Tick|NewTimer|NewTicker|Sleep)\b`, string(text), name)
	}
}

// A fence that forbids nothing would hold as well.
func TestFencesSeeWhatIsBehindThem(t *testing.T) {
	reached := list(t, "go", "list", "-deps", "./internal/dataplane")
	for _, forbidden := range [][]string{clients, {"k8s.io/"}, {module + "/internal/proxy"}} {
		assert.True(t, slices.ContainsFunc(reached, func(path string) bool { return beyond(path, forbidden) }), "%v", forbidden)
	}
}

// beyond reports whether an import path is one of the forbidden ones or below it.
func beyond(path string, forbidden []string) bool {
	return slices.ContainsFunc(forbidden, func(prefix string) bool {
		return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
	})
}
