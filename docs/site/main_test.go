package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every link of the documents and of the README leads somewhere, and every page has a place in the navigation.
func TestTheDocumentsHaveNoDeadLink(t *testing.T) {
	output := t.TempDir()
	require.NoError(t, prepare("../..", output))
	index, err := os.ReadFile(filepath.Join(output, "docs", "index.md"))
	require.NoError(t, err)
	assert.Contains(t, string(index), "[GitOps](gitops.md)", "links of the README stay on the site")
	assert.Contains(t, string(index), "]("+repository+"CONTRIBUTING.md)", "other files are in the repository")
	assert.Contains(t, string(index), "](demo.svg)", "pictures are of the site")
	assert.FileExists(t, filepath.Join(output, "docs", "demo.svg"))
	config, err := os.ReadFile(filepath.Join(output, "mkdocs.yml"))
	require.NoError(t, err)
	assert.Contains(t, string(config), "reasons/PortNotFound.md")
}

func TestLinks(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "internal"), 0o750))
	s := &site{root: root, pages: map[string][]byte{
		home: []byte("# A\n"), "a.md": []byte("# A page\n## With `code`, and more\n```\n# no heading\n```\n## Twice\n## Twice\n"), "in/b.md": []byte("# B\n"),
	}}
	for _, c := range []struct{ from, target, want string }{
		{home, "docs/a.md", "a.md"},
		{home, "docs/a.md#with-code-and-more", "a.md#with-code-and-more"},
		{"a.md", "#twice-1", "#twice-1"},
		{"a.md", "../README.md", "index.md"},
		{"in/b.md", "../a.md#a-page", "../a.md#a-page"},
		{"in/b.md", "../../internal", repository + "internal"},
		{"in/b.md", "https://example.com/a#b", "https://example.com/a#b"},
	} {
		have, err := s.resolve(c.from, c.target)
		require.NoError(t, err, c.target)
		assert.Equal(t, c.want, have)
	}
	for _, target := range []string{"c.md", "a.md#no-heading", "#nowhere", "../missing", "../../../etc/passwd"} {
		_, err := s.resolve("a.md", target)
		require.Error(t, err, target)
	}
	_, err := s.navigation()
	require.ErrorContains(t, err, "install.md, which is no page")

	s.pages["a.md"] = []byte("# A page\n[B.md](in/b.md), [b.md](in/b.md#b), [in/b.md](in/b.md) and [this](#a-page)\n")
	text, err := s.rewrite("a.md")
	require.NoError(t, err)
	assert.Equal(t, "# A page\n[B.md](in/b.md), [B](in/b.md#b), [B](in/b.md) and [this](#a-page)\n", string(text))
}
