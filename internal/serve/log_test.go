package serve

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A dozen reflectors that retry have one line for one outage, and their other errors all pass.
func TestAnOutageHasOneLine(t *testing.T) {
	var lines []string
	log := withoutRepeats(funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))
	refused := errors.New("dial tcp 192.0.2.1:443: connect: connection refused")
	for n := range 3 {
		for _, resource := range []string{"pods", "services"} {
			err := fmt.Errorf("failed to list %s: %w", resource, &url.Error{Op: "Get", URL: "https://192.0.2.1/" + resource, Err: refused})
			log.WithName(resource).WithValues("a", "b").Error(err, "Failed to watch")
			refused = fmt.Errorf("read tcp 192.0.2.1:%d: connection reset by peer", 40000+n)
		}
	}
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], "The API server does not answer")
	assert.Contains(t, lines[0], "connection refused")
	log.Error(errors.New("pods is forbidden"), "Failed to watch")
	log.Error(errors.New("pods is forbidden"), "Failed to watch")
	require.Len(t, lines, 3)
	assert.Contains(t, strings.Join(lines[1:], "\n"), "forbidden")
}
