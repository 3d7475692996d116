package istio

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/judges/cases"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
)

// mutation switches one rule of the resolver off.
type mutation struct {
	rule string
	// file of the repository; the only occurrence of old in it becomes new.
	file, old, new string
}

// disagrees is the exit status of replay when a decision differs from Istio's answer.
const disagrees = 3

// A judge is worth its name if it sees each rule that is missing. The answers of Istio do not depend on the
// resolver, so they are written down once, and each mutation is compared with them.
func TestMutations(t *testing.T) {
	answers := record(t)
	status, said := replay(t, answers, nil)
	require.Zero(t, status, "the resolver as it is: %s", said)
	for _, m := range mutations {
		t.Run(m.rule, func(t *testing.T) {
			file, text := m.apply(t)
			changed := filepath.Join(t.TempDir(), "mutated.go")
			require.NoError(t, os.WriteFile(changed, []byte(text), 0o600))
			status, said := replay(t, answers, map[string]string{file: changed})
			require.Equal(t, disagrees, status, "without this rule every decision is as Istio answers: %s", said)
			t.Log(said)
		})
	}
}

// A mutation whose text is gone would be noticed only by TestMutations, which takes long.
func TestTextsOfMutationsAreInTheirFiles(t *testing.T) {
	for _, m := range mutations {
		m.apply(t)
	}
}

// apply returns the absolute name of the mutation's file, and its text without the rule.
func (m mutation) apply(t *testing.T) (file, text string) {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("..", "..", "..", m.file))
	require.NoError(t, err)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(raw), m.old), "%s has changed: this text must be in it once, or the mutation be written anew:\n%s", m.file, m.old)
	return file, strings.Replace(string(raw), m.old, m.new, 1)
}

// record writes a file of cases: all known clusters, and random ones.
func record(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cases")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	out := json.NewEncoder(f)
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	for _, file := range files {
		require.NoError(t, out.Encode(known(t, strings.TrimSuffix(filepath.Base(file), ".txtar"))))
	}
	for seed := range cases.Seeds() {
		c := meshOfServices(seed)
		require.NoError(t, out.Encode(gate.Case{Cluster: c, Answers: answersOf(t, c)}))
	}
	return name
}

// replay builds the program of that name with some files replaced, and returns its exit status and its output.
func replay(t *testing.T, answers string, files map[string]string) (status int, output string) {
	t.Helper()
	dir := t.TempDir()
	overlay, err := json.Marshal(map[string]any{"Replace": files})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, "replay"), "./replay")
	text, err := build.CombinedOutput()
	require.NoError(t, err, string(text))
	text, err = exec.CommandContext(t.Context(), filepath.Join(dir, "replay"), answers).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), string(text)
	}
	require.NoError(t, err)
	return 0, string(text)
}
