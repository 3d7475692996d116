{{- /*
The objects of kustomize's files, edited as values say. The files are the only source:
base and components are links to the folders beside the chart, and a packed chart holds
their content.
*/}}

{{- /* The files that values ask for. */}}
{{- define "mirrorgate.files" -}}
base/namespaces.yaml
base/rbac.yaml
base/deployment.yaml
base/service.yaml
base/webhooks.yaml
components/policy/rbac.yaml
{{ if .Values.crds.enabled }}components/policy/mirrorgate.dev_mirrorlimits.yaml
components/policy/mirrorgate.dev_mirrorpolicies.yaml{{ end }}
{{ range .Values.routes }}components/{{ . }}/rbac.yaml
{{ end -}}
{{ if .Values.iter8.enabled }}components/iter8/rbac.yaml{{ end }}
{{ if .Values.noMesh.enabled }}components/no-mesh/rbac.yaml
components/no-mesh/deployment.yaml{{ end }}
{{ if eq .Values.certs.source "self" }}components/self-cert/rbac.yaml{{ end }}
{{ if eq .Values.certs.source "cert-manager" }}components/cert-manager/rbac.yaml{{ end }}
{{ if .Values.proxy.enabled }}components/proxy/deployment.yaml
components/proxy/service.yaml{{ end }}
{{ if .Values.prometheus.enabled }}components/prometheus/monitor.yaml{{ end }}
{{ if .Values.prometheus.enabled }}components/prometheus/rules.yaml{{ end }}
{{ if .Values.networkPolicy.enabled }}components/network-policy/network-policy.yaml{{ end }}
{{- end }}

{{- /*
The objects of a file, as a YAML list; called with a dict of it and the root. The
release's namespace stands for base's.
*/}}
{{- define "mirrorgate.documents" -}}
{{- $objects := list }}
{{- range regexSplit "(?m)^---$" (.root.Files.Get .file) -1 }}
{{- with . | replace "mirrorgate-system" $.root.Release.Namespace | fromYaml }}
{{- $objects = append $objects . }}
{{- end }}
{{- end }}
{{- toYaml $objects }}
{{- end }}

{{- /* Edits one object; called with a dict of it and the root. */}}
{{- define "mirrorgate.edit" -}}
{{- $_ := set .object.metadata.labels "app.kubernetes.io/part-of" "mirrorgate" }}
{{- range $name, $value := .root.Values.extraLabels }}{{ $_ := set $.object.metadata.labels $name $value }}{{ end }}
{{- if and (eq .object.kind "ServiceAccount") .root.Values.serviceAccount.annotations }}
{{- $_ := set .object.metadata "annotations" .root.Values.serviceAccount.annotations }}
{{- end }}
{{- if and .root.Values.nameOverride (eq .object.metadata.name "mirrorgate") }}
{{- include "mirrorgate.rename" (dict "object" .object "labels" (dict "app.kubernetes.io/name" .root.Values.nameOverride)) }}
{{- end }}
{{- if and (eq .object.kind "CustomResourceDefinition") .root.Values.crds.keep }}
{{- $_ := set .object.metadata.annotations "helm.sh/resource-policy" "keep" }}
{{- end }}
{{- if and (eq .object.kind "Service") (eq .object.metadata.name "mirrorgate") .root.Values.noMesh.enabled }}
{{- $_ := set .object.spec "ports" (append .object.spec.ports (dict "name" "report" "port" 9444 "targetPort" "report")) }}
{{- end }}
{{- if eq .object.kind "Deployment" }}
{{- include "mirrorgate.deployment" . }}
{{- else if hasSuffix "WebhookConfiguration" .object.kind }}
{{- include "mirrorgate.webhooks" . }}
{{- end }}
{{- end }}

{{- /*
Gives the Deployment, its pods and their disruption budget another name, and selects the pods by it. The Service and
everything else keep theirs, by which the program and its certificate know them.
*/}}
{{- define "mirrorgate.rename" -}}
{{- $object := .object }}
{{- $labels := .labels }}
{{- $name := get $labels "app.kubernetes.io/name" }}
{{- if has $object.kind (list "Deployment" "PodDisruptionBudget") }}
{{- $_ := set $object.metadata "name" $name }}
{{- $_ := set $object.metadata.labels "app.kubernetes.io/name" $name }}
{{- $_ := set $object.spec.selector "matchLabels" $labels }}
{{- else if eq $object.kind "Service" }}
{{- $_ := set $object.spec "selector" $labels }}
{{- else if eq $object.kind "NetworkPolicy" }}
{{- $_ := set (first $object.spec.podSelector.matchExpressions) "values" (list $name "mirrorgate-intercept") }}
{{- end }}
{{- if eq $object.kind "Deployment" }}
{{- $_ := set $object.spec.template.metadata.labels "app.kubernetes.io/name" $name }}
{{- range $object.spec.template.spec.topologySpreadConstraints }}{{ $_ := set .labelSelector "matchLabels" $labels }}{{ end }}
{{- end }}
{{- end }}

{{- define "mirrorgate.deployment" -}}
{{- include "mirrorgate.pod" . }}
{{- if eq .object.metadata.name (.root.Values.nameOverride | default "mirrorgate") }}
{{- include "mirrorgate.serve" . }}
{{- end }}
{{- if ne .object.metadata.name "mirrorgate-proxy" }}
{{- include "mirrorgate.configured" . }}
{{- end }}
{{- end }}

{{- define "mirrorgate.pod" -}}
{{- $values := .root.Values }}
{{- $pod := .object.spec.template.spec }}
{{- $container := first $pod.containers }}
{{- $image := printf "%s:%s" $values.image.repository ($values.image.tag | default .root.Chart.AppVersion) }}
{{- with $values.image.digest }}{{ $image = printf "%s@%s" $values.image.repository . }}{{ end }}
{{- $_ := set $container "image" $image }}
{{- with $values.image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end }}
{{- with $values.imagePullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
{{- with $values.nodeSelector }}{{ $_ := set $pod "nodeSelector" . }}{{ end }}
{{- with $values.tolerations }}{{ $_ := set $pod "tolerations" . }}{{ end }}
{{- with $values.affinity }}{{ $_ := set $pod "affinity" . }}{{ end }}
{{- with $values.priorityClassName }}{{ $_ := set $pod "priorityClassName" . }}{{ end }}
{{- range $name, $value := $values.extraLabels }}{{ $_ := set $.object.spec.template.metadata.labels $name $value }}{{ end }}
{{- end }}

{{- define "mirrorgate.serve" -}}
{{- $values := .root.Values }}
{{- $container := first .object.spec.template.spec.containers }}
{{- range $values.routes }}
{{- $_ := set $container "args" (append $container.args (printf "--routes=%s" .)) }}
{{- end }}
{{- if $values.iter8.enabled }}
{{- $_ := set $container "args" (append $container.args "--iter8") }}
{{- end }}
{{- if $values.noMesh.enabled }}
{{- $_ := set $container "args" (concat $container.args (list "--no-mesh" "--intercept=false")) }}
{{- $_ := set $container "ports" (append $container.ports (dict "name" "report" "containerPort" 9444)) }}
{{- end }}
{{- end }}

{{- /* The replicas, resources, file and flags of a Deployment; the flags are those of serve alone. */}}
{{- define "mirrorgate.configured" -}}
{{- $values := .root.Values }}
{{- $spec := .object.spec }}
{{- $pod := $spec.template.spec }}
{{- $container := first $pod.containers }}
{{- $_ := set $spec "replicas" $values.replicas }}
{{- with $values.resources }}{{ $_ := set $container "resources" . }}{{ end }}
{{- $annotations := deepCopy $values.podAnnotations }}
{{- with $values.config }}
{{- $_ := set $annotations "mirrorgate.dev/config-hash" (toYaml . | sha256sum | trunc 16) }}
{{- $_ := set $container "args" (append $container.args "--config=/etc/mirrorgate/config.yaml") }}
{{- $_ := set $container "volumeMounts" (list (dict "name" "config" "mountPath" "/etc/mirrorgate" "readOnly" true)) }}
{{- $_ := set $pod "volumes" (list (dict "name" "config" "configMap" (dict "name" "mirrorgate-config"))) }}
{{- end }}
{{- with $annotations }}{{ $_ := set $spec.template.metadata "annotations" . }}{{ end }}
{{- if ne .object.metadata.name "mirrorgate-intercept" }}
{{- $_ := set $container "args" (concat $container.args $values.extraArgs) }}
{{- end }}
{{- end }}

{{- /*
The webhooks of each component in values, the last first, as kustomize puts them.

The program moves failurePolicy to Fail when it has proved that it denies. An upgrade
leaves it there, unless the program is told to stay open. Helm has no word for caBundle,
so that stays as it is.
*/}}
{{- define "mirrorgate.webhooks" -}}
{{- $root := .root }}
{{- $kind := .object.kind }}
{{- if eq .root.Values.certs.source "cert-manager" }}
{{- $_ := set .object.metadata "annotations" (dict "cert-manager.io/inject-ca-from" (printf "%s/mirrorgate-tls" $root.Release.Namespace)) }}
{{- end }}
{{- $policies := dict }}
{{- if eq (get .root.Values.config "failure-policy" | default "Fail") "Fail" }}
{{- range (lookup .object.apiVersion .object.kind "" .object.metadata.name).webhooks }}
{{- $_ := set $policies .name .failurePolicy }}
{{- end }}
{{- end }}
{{- $hooks := list }}
{{- $components := .root.Values.routes }}
{{- if .root.Values.noMesh.enabled }}{{ $components = append $components "no-mesh" }}{{ end }}
{{- range $component := $components }}
{{- range include "mirrorgate.documents" (dict "file" (printf "components/%s/webhooks.yaml" $component) "root" $root) | fromYamlArray }}
{{- if eq .kind $kind }}{{ $hooks = concat .webhooks $hooks }}{{ end }}
{{- end }}
{{- end }}
{{- $_ := set .object "webhooks" $hooks }}
{{- range $hooks }}
{{- $_ := set . "failurePolicy" (get $policies .name | default .failurePolicy) }}
{{- end }}
{{- end }}
