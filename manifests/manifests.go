// Package manifests holds what is applied to a cluster to install mirrorgate,
// and gives the program the parts that it registers itself.
package manifests

import _ "embed" // for the manifests below

// Webhooks are the webhook configurations, mutating and validating, as YAML
// documents. They call the Service of an installation in the cluster.
//
//go:embed base/webhooks.yaml
var Webhooks []byte
