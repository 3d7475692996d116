// Package crds holds no code. Its module pins the versions whose CustomResourceDefinitions the
// test cluster installs; the imports keep `go mod tidy` from dropping them. They are the smallest
// packages of each module, so that nothing else has to be downloaded.
package crds

import (
	_ "github.com/cert-manager/cert-manager/pkg/apis/acme"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
	_ "istio.io/api/label"
	_ "sigs.k8s.io/gateway-api/pkg/consts"
)
