package house

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheProgramCanBeInstalledByGo holds what `go install github.com/mirrorgate/mirrorgate/cmd/mirrorgate@v1.2.3`
// needs: the module's name, and no replacement or exclusion in go.mod, with which Go refuses the command.
func TestTheProgramCanBeInstalledByGo(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^module github\.com/mirrorgate/mirrorgate$`, string(text))
	assert.NotRegexp(t, `(?m)^(replace|exclude)\b|=>`, string(text))
}
