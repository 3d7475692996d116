// Command release builds the files of a release, the same bytes each time and on every machine: binaries, a
// bill of materials for each, an image, the Helm chart, the plugin of kubectl with its manifest for krew, and their
// checksums.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// platform is an operating system and an architecture, as Go names them.
type platform struct{ os, arch string }

// release are the inputs of a release.
type release struct {
	// source is the folder of the repository, out the folder to write to.
	source, out, version string
	// platforms are the platforms of the binaries. The image has the Linux ones.
	platforms []platform
}

func main() {
	r := release{platforms: []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}}
	flag.StringVar(&r.source, "source", "..", "folder of the repository")
	flag.StringVar(&r.out, "out", "../dist", "folder to write to")
	flag.StringVar(&r.version, "version", "devel", "version to stamp")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := r.make(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// make writes all files of the release.
func (r release) make(ctx context.Context) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil { //nolint:gosec // its files are for everybody
		return err
	}
	var made []string
	binaries := map[platform]string{}
	for _, p := range r.platforms {
		binary := r.file(p.os + "_" + p.arch)
		if err := r.build(ctx, p, binary); err != nil {
			return err
		}
		if err := writeSBOM(binary, binary+".cdx.json", r.version); err != nil {
			return err
		}
		binaries[p] = binary
		made = append(made, binary, binary+".cdx.json")
	}
	plugins, err := r.writePlugins(binaries)
	if err != nil {
		return err
	}
	made = append(made, plugins...)
	image := r.file("image.tar")
	if err := writeImage(image, r.version, r.platforms, binaries); err != nil {
		return err
	}
	chart, err := writeChart(filepath.Join(r.source, "manifests", "chart"), r.out, r.version)
	if err != nil {
		return err
	}
	return r.checksums(append(made, image, chart))
}

func (r release) file(suffix string) string {
	return filepath.Join(r.out, "mirrorgate_"+r.version+"_"+suffix)
}

// build builds one binary, as the Dockerfile does. The state of the repository is not stamped: a build in a
// container does not know it, and its binary would differ.
func (r release) build(ctx context.Context, p platform, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w -X main.version="+r.version, "-o", binary, "./cmd/mirrorgate")
	cmd.Dir = r.source
	// Other settings of the environment would change the binary.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOFLAGS=-mod=readonly", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build for %s/%s: %w\n%s", p.os, p.arch, err, out)
	}
	return nil
}

// checksums writes SHA256SUMS in the format of sha256sum.
func (r release) checksums(files []string) error {
	var lines strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(content), filepath.Base(file))
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(lines.String()), 0o644) //nolint:gosec // for everybody
}
