package install

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImageHoldsAStaticBinaryWithItsVersion runs the Dockerfile's build stage without a container engine, on
// the files that .dockerignore lets through.
func TestImageHoldsAStaticBinaryWithItsVersion(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	context := t.TempDir()
	ignore, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	require.NoError(t, err)
	for line := range strings.Lines(string(ignore)) {
		name, let := strings.CutPrefix(strings.TrimSpace(line), "!")
		if !let {
			continue
		}
		from := filepath.Join(root, name)
		info, err := os.Stat(from)
		require.NoError(t, err)
		if info.IsDir() {
			require.NoError(t, os.CopyFS(filepath.Join(context, name), os.DirFS(from)))
			continue
		}
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(context, name), text, 0o600))
	}
	raw, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	_, build, found := strings.Cut(string(raw), "    go build ")
	require.True(t, found)
	build, _, _ = strings.Cut(build, "\n")
	binary := filepath.Join(context, "mirrorgate")
	build = strings.NewReplacer("$VERSION", "v1.2.3-test", "/mirrorgate ", binary+" ").Replace(build)
	require.Contains(t, build, binary)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "go build -buildvcs=false "+build)
	cmd.Dir = context
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))

	file, err := elf.Open(binary)
	require.NoError(t, err)
	defer file.Close()
	for _, segment := range file.Progs {
		require.NotEqual(t, elf.PT_INTERP, segment.Type, "it needs a dynamic loader, which the image does not have")
	}
	said, err := exec.CommandContext(t.Context(), binary, "version").Output()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(said), "mirrorgate v1.2.3-test go1."), string(said))
	require.Contains(t, string(raw), "FROM scratch\n")
	require.Contains(t, string(raw), "USER 65532:65532\n")
}
