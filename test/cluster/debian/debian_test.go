package debian

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProcessesTakeTurns(t *testing.T) {
	lockFile = filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx); err == nil || !strings.Contains(err.Error(), "another process holds") {
		t.Fatalf("the lock was given twice: %v", err)
	}
	unlock()
	again, err := lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestNothingIsInstalledThatIsThere(t *testing.T) {
	self, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"go", self} {
		if err := Need(t.Context(), path, "no-such-package"); err != nil {
			t.Error(err)
		}
	}
}
