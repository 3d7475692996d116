package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"
)

// checkout copies the sources of the program to a new folder.
func checkout(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"api", "certs", "cmd", "docs", "internal", "manifests", "patch", "webhook"} {
		require.NoError(t, os.CopyFS(filepath.Join(folder, name), os.DirFS(filepath.Join("..", name))))
	}
	for _, name := range []string{"go.mod", "go.sum", "LICENSE"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), text, 0o600))
	}
	return folder
}

func TestTwoReleasesAreTheSameWhereverTheyAreBuilt(t *testing.T) {
	here := platform{runtime.GOOS, runtime.GOARCH}
	var sums [2]string
	first := ""
	for i := range sums {
		r := release{source: checkout(t), out: t.TempDir(), version: "v1.2.3-test", platforms: []platform{here}}
		require.NoError(t, r.make(t.Context()))
		text, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
		require.NoError(t, err)
		sums[i], first = string(text), r.out
	}
	require.Equal(t, sums[0], sums[1])
	require.Equal(t, 6, strings.Count(sums[0], "\n"), "a binary, its bill of materials, the plugin and its manifest, an image, the chart")
	require.Contains(t, sums[0], "  mirrorgate-1.2.3-test.tgz\n")

	name := "mirrorgate_v1.2.3-test_" + here.os + "_" + here.arch
	output, err := exec.CommandContext(t.Context(), filepath.Join(first, name), "version").Output()
	require.NoError(t, err)
	require.Contains(t, string(output), "mirrorgate v1.2.3-test go1.")

	checkPlugin(t, first, here)

	raw, err := os.ReadFile(filepath.Join(first, name+".cdx.json"))
	require.NoError(t, err)
	var bom cdx.BOM
	require.NoError(t, json.Unmarshal(raw, &bom))
	require.Equal(t, "pkg:golang/github.com/mirrorgate/mirrorgate@v1.2.3-test", bom.Metadata.Component.PackageURL)
	require.Regexp(t, `"pkg:golang/k8s.io/client-go@v0\.\d+\.\d+"`, string(raw))
	require.Regexp(t, `"pkg:golang/std@go1\.`, string(raw))
}

func TestImageIsOneFileForEachPlatform(t *testing.T) {
	folder := t.TempDir()
	platforms := []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}
	binaries := map[platform]string{}
	for _, p := range platforms {
		binaries[p] = filepath.Join(folder, p.os+p.arch)
		require.NoError(t, os.WriteFile(binaries[p], []byte("for "+p.arch), 0o600))
	}
	file := filepath.Join(folder, "image.tar")
	require.NoError(t, writeImage(file, "v1", platforms, binaries))

	index, err := layout.ImageIndexFromPath(unpack(t, file))
	require.NoError(t, err)
	top, err := index.IndexManifest()
	require.NoError(t, err)
	require.Equal(t, "v1", top.Manifests[0].Annotations["org.opencontainers.image.ref.name"])
	index, err = index.ImageIndex(top.Manifests[0].Digest)
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 2)
	for i, arch := range []string{"amd64", "arm64"} {
		require.Equal(t, &v1.Platform{OS: "linux", Architecture: arch}, manifest.Manifests[i].Platform)
		image, err := index.Image(manifest.Manifests[i].Digest)
		require.NoError(t, err)
		config, err := image.ConfigFile()
		require.NoError(t, err)
		require.Equal(t, arch, config.Architecture)
		layers, err := image.Layers()
		require.NoError(t, err)
		require.Len(t, layers, 1)
		files, err := layers[0].Uncompressed()
		require.NoError(t, err)
		r := tar.NewReader(files)
		header, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, "mirrorgate", header.Name)
		require.EqualValues(t, 0o755, header.Mode)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, "for "+arch, string(content))
		sameAsDockerfile(t, config.Config)
	}
}

// unpack unpacks an archive of files.
func unpack(t *testing.T, file string) string {
	t.Helper()
	folder := t.TempDir()
	in, err := os.Open(file)
	require.NoError(t, err)
	defer in.Close()
	for r := tar.NewReader(in); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return folder
		}
		require.NoError(t, err)
		name := filepath.Join(folder, header.Name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(name, content, 0o600))
	}
}

// sameAsDockerfile requires that the Dockerfile makes the same image.
func sameAsDockerfile(t *testing.T, config v1.Config) {
	t.Helper()
	raw, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	text := string(raw)
	entrypoint, err := json.Marshal(config.Entrypoint)
	require.NoError(t, err)
	cmd, err := json.Marshal(config.Cmd)
	require.NoError(t, err)
	for _, line := range []string{"USER " + config.User, "ENTRYPOINT " + string(entrypoint), "CMD " + string(cmd)} {
		require.Contains(t, text, "\n"+line+"\n")
	}
	require.Contains(t, text, `go build -trimpath -ldflags "-s -w -X main.version=$VERSION"`)
}

func TestDockerfileBuildsWithTheTestedGoVersionAndPullsNoOtherImage(t *testing.T) {
	raw, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	module, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (.+)$`).FindSubmatch(module)
	require.NotNil(t, version)
	require.Regexp(t, `\nARG GO_IMAGE=golang:`+regexp.QuoteMeta(string(version[1]))+`@sha256:[0-9a-f]{64}\n`, string(raw), "a tag can be moved")
	var from []string
	for _, image := range regexp.MustCompile(`(?m)^FROM (.+)$|--from=([^ ]+)|^# *syntax *=(.+)$`).FindAllStringSubmatch(string(raw), -1) {
		from = append(from, image[1]+image[2]+image[3])
	}
	require.Equal(t, []string{"--platform=$BUILDPLATFORM $GO_IMAGE AS build", "scratch", "build"}, from)
}
