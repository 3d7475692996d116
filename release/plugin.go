package main

// The plugin of kubectl: an archive for each platform, and the manifest by which krew installs it.

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// address is where the files of a release are on the web.
const address = "https://github.com/mirrorgate/mirrorgate"

// The names by which kubectl finds the plugin and its completion. The second leads to the first.
const (
	pluginFile     = "kubectl-mirrorgate"
	completionFile = "kubectl_complete-mirrorgate"
)

// krewManifest is a Plugin of krew, https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest.
type krewManifest struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       krewSpec          `json:"spec"`
}

type krewSpec struct {
	Version          string         `json:"version"`
	Homepage         string         `json:"homepage"`
	ShortDescription string         `json:"shortDescription"`
	Description      string         `json:"description"`
	Caveats          string         `json:"caveats"`
	Platforms        []krewPlatform `json:"platforms"`
}

type krewPlatform struct {
	Selector map[string]map[string]string `json:"selector"`
	URI      string                       `json:"uri"`
	SHA256   string                       `json:"sha256"`
	Bin      string                       `json:"bin"`
}

// writePlugins writes the archives and the manifest, and returns their paths.
func (r release) writePlugins(binaries map[platform]string) (files []string, err error) {
	manifest := krewManifest{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin", Metadata: map[string]string{"name": "mirrorgate"},
		Spec: krewSpec{
			// krew takes a version with a v, also of a build without a tag.
			Version: "v" + chartVersion(r.version), Homepage: address,
			ShortDescription: "See and steer traffic mirrors that mirrorgate gates",
			Description: "Shows where the mirrors of HTTPRoutes, GRPCRoutes and VirtualServices are and why, explains the\n" +
				"decision about a route, judges manifests, and stops, resumes and steps MirrorPolicies.\n",
			Caveats: "For completion, link " + completionFile + " of the plugin's folder into a folder of your PATH.\n",
		},
	}
	license, err := os.ReadFile(filepath.Join(r.source, "LICENSE"))
	if err != nil {
		return nil, err
	}
	for _, p := range r.platforms {
		binary, err := os.ReadFile(binaries[p])
		if err != nil {
			return nil, err
		}
		archive, err := pack(binary, license)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(r.out, fmt.Sprintf("%s_%s_%s_%s.tar.gz", pluginFile, r.version, p.os, p.arch))
		if err := os.WriteFile(file, archive, 0o644); err != nil { //nolint:gosec // for everybody
			return nil, err
		}
		files = append(files, file)
		manifest.Spec.Platforms = append(manifest.Spec.Platforms, krewPlatform{
			Selector: map[string]map[string]string{"matchLabels": {"os": p.os, "arch": p.arch}},
			URI:      address + "/releases/download/" + r.version + "/" + filepath.Base(file),
			SHA256:   fmt.Sprintf("%x", sha256.Sum256(archive)), Bin: pluginFile,
		})
	}
	text, err := yaml.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(r.out, "krew.yaml")
	return append(files, file), os.WriteFile(file, text, 0o644) //nolint:gosec // for everybody
}

// pack packs the files of the plugin, without times and owners, so that the archive is the same wherever it is made.
func pack(binary, license []byte) ([]byte, error) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	w := tar.NewWriter(zipped)
	for _, f := range []struct {
		header  tar.Header
		content []byte
	}{
		{tar.Header{Typeflag: tar.TypeReg, Name: pluginFile, Mode: 0o755}, binary},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: completionFile, Linkname: pluginFile, Mode: 0o777}, nil},
		{tar.Header{Typeflag: tar.TypeReg, Name: "LICENSE", Mode: 0o644}, license},
	} {
		f.header.Format, f.header.Size = tar.FormatUSTAR, int64(len(f.content))
		if err := w.WriteHeader(&f.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
