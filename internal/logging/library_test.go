package logging_test

import (
	"errors"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/logging"
)

func TestTheLibraryIsHeardByDebuggersAlone(t *testing.T) {
	for verbosity, want := range map[int]int{0: 1, 1: 2} {
		var lines []string
		log := logging.OfLibrary(funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{Verbosity: verbosity}))
		log.WithName("webhook").WithValues("a", "b").Info("Starting webhook server")
		log.Error(errors.New("x"), "A fault")
		assert.Len(t, lines, want, "%q", lines)
	}
}
