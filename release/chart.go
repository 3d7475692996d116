package main

// The Helm chart in one file. It has copies of the files to which its links lead, and installs the image of
// the release.

import (
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/chart/v2/util"
)

// writeChart packs a chart's folder into a file in the folder out, with the name that Helm gives it, and
// returns its path.
func writeChart(folder, out, version string) (file string, err error) {
	chart, err := loader.LoadDir(folder)
	if err != nil {
		return "", err
	}
	// The default tag of the image is appVersion.
	chart.Metadata.Version, chart.Metadata.AppVersion = chartVersion(version), version
	// The times of the files in a checkout differ, and the archive would too.
	never := time.Unix(0, 0)
	chart.ModTime, chart.SchemaModTime = never, never
	for _, f := range slices.Concat(chart.Raw, chart.Templates, chart.Files) {
		f.ModTime = never
	}
	return util.Save(chart, out)
}

// chartVersion returns a version as Helm requires it: without the v. A version without a tag becomes one that
// sorts before every release.
func chartVersion(version string) string {
	if v, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v")); err == nil {
		return v.String()
	}
	return "0.0.0-devel-" + version
}
