package main

// The Helm chart in one file: what its links lead to is in it, and it installs the image of the release.

import (
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/chart/v2/util"
)

// writeChart packs a chart's folder into out, under the name that Helm gives it, and returns the file.
func writeChart(folder, out, version string) (file string, err error) {
	chart, err := loader.LoadDir(folder)
	if err != nil {
		return "", err
	}
	// The default tag of the image is appVersion.
	chart.Metadata.Version, chart.Metadata.AppVersion = chartVersion(version), version
	// A checkout's times would be in it.
	never := time.Unix(0, 0)
	chart.ModTime, chart.SchemaModTime = never, never
	for _, f := range slices.Concat(chart.Raw, chart.Templates, chart.Files) {
		f.ModTime = never
	}
	return util.Save(chart, out)
}

// chartVersion is a version as Helm wants it: without the v, and one that sorts before every release
// where there is no tag.
func chartVersion(version string) string {
	if v, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v")); err == nil {
		return v.String()
	}
	return "0.0.0-devel-" + version
}
