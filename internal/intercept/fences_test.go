package intercept_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The linter sees direct imports alone; here every package counts that a package reaches.
func TestPackagesThatMustNotBeReached(t *testing.T) {
	const client = `^net/http$|^k8s\.io/client-go|^sigs\.k8s\.io/controller-runtime`
	const dataPlane = `^github\.com/mirrorgate/mirrorgate/internal/(dataplane|proxy)`
	for from, forbidden := range map[string]string{
		"internal/wellknown": client + "|" + dataPlane,
		"internal/intercept": client + "|" + dataPlane,
		"webhook":            dataPlane,
	} {
		t.Run(from, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "github.com/mirrorgate/mirrorgate/"+from).Output()
			require.NoError(t, err)
			for reached := range strings.FieldsSeq(string(out)) {
				assert.NotRegexp(t, regexp.MustCompile(forbidden), reached)
			}
		})
	}
}
