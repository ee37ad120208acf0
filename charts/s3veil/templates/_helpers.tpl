{{/*
Names, labels and the parts of a pod that gateway, Jobs and sidecar have in common.

Everything that they use takes a dictionary of
  context   the $ of whichever chart calls, for .Release
  values    s3veil's own values: .Values here, .Values.s3veil in a chart that depends on this one
so that the sidecar can be asked for from another chart.
*/}}

{{- define "s3veil.name" -}}
{{- .values.nameOverride | default "s3veil" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The release's name alone where it says s3veil already. */}}
{{- define "s3veil.fullname" -}}
{{- $name := include "s3veil.name" . }}
{{- if .values.fullnameOverride }}
{{- .values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .context.Release.Name }}
{{- .context.Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .context.Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "s3veil.serviceAccountName" -}}
{{- if .values.serviceAccount.create }}
{{- .values.serviceAccount.name | default (include "s3veil.fullname" .) }}
{{- else }}
{{- .values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* What selects the gateway's pods, or those of another `component`. It can't change under a Deployment. */}}
{{- define "s3veil.selectorLabels" -}}
app.kubernetes.io/name: {{ include "s3veil.name" . }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component | default "gateway" }}
{{- end }}

{{/* The labels of every object; `component` as well. */}}
{{- define "s3veil.labels" -}}
{{- with .values.commonLabels }}
{{- toYaml . }}
{{ end -}}
app.kubernetes.io/name: {{ include "s3veil.name" . }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component | default "gateway" }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The appVersion of Chart.yaml, which another chart that asks for the sidecar can't see. tests/chart/run compares. */}}
{{- define "s3veil.version" -}}
0.1.0
{{- end }}

{{- define "s3veil.image" -}}
{{- $image := .values.image }}
{{- $name := $image.repository }}
{{- with $image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name ($image.tag | default (include "s3veil.version" .)) }}
{{- end }}
{{- end }}

{{/* A whole number, whatever Helm made of it on its way: values files give floats, --set integers. */}}
{{- define "s3veil.number" -}}
{{- if typeIs "string" . }}{{ . }}{{ else }}{{ printf "%.0f" (float64 .) }}{{ end }}
{{- end }}

{{/* The port of an "address:port". */}}
{{- define "s3veil.port" -}}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{- define "s3veil.containerSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/*
Environment variables: those of `secrets` that name some, then `env`.
*/}}
{{- define "s3veil.env" -}}
{{- $context := .context }}
{{- range $name, $secret := .values.secrets }}
{{- range $variable, $key := $secret.env }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ tpl $secret.secretName $context }}
      key: {{ $key }}
      {{- if $secret.optional }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}
{{- with .values.env }}
{{ tpl (toYaml .) $context }}
{{- end }}
{{- end }}

{{/*
Mounts of what both forms have: the configuration, secrets, configMaps, tokens. Each is a directory: a file that is mounted
by itself (subPath) would never change under s3veil.
*/}}
{{- define "s3veil.volumeMounts" -}}
- name: {{ .prefix }}config
  mountPath: /etc/s3veil
  readOnly: true
{{- range $name, $secret := .values.secrets }}
{{- if not $secret.env }}
- name: {{ $.prefix }}secret-{{ $name }}
  mountPath: {{ $secret.mountPath | default (printf "/run/secrets/%s" $name) }}
  readOnly: true
{{- end }}
{{- end }}
{{- range $name, $map := .values.configMaps }}
- name: {{ $.prefix }}configmap-{{ $name }}
  mountPath: {{ $map.mountPath | default (printf "/run/configmaps/%s" $name) }}
  readOnly: true
{{- end }}
{{- range $name, $token := .values.tokens }}
- name: {{ $.prefix }}token-{{ $name }}
  mountPath: {{ $token.mountPath | default (printf "/run/secrets/%s" $name) }}
  readOnly: true
{{- end }}
{{- end }}

{{/*
Their volumes. `mode`: the rights of secret files, in decimal: 288 is 0440, as the chart's own pods have an fsGroup; 292 is 0444,
as a sidecar is a guest in a pod that may have none, and the files are mounted in its container only.
*/}}
{{- define "s3veil.volumes" -}}
{{- $context := .context }}
- name: {{ .prefix }}config
  configMap:
    name: {{ .configMap }}
{{- range $name, $secret := .values.secrets }}
{{- if not $secret.env }}
- name: {{ $.prefix }}secret-{{ $name }}
  secret:
    secretName: {{ tpl $secret.secretName $context }}
    defaultMode: {{ $.mode }}
    {{- if $secret.optional }}
    optional: true
    {{- end }}
    {{- with $secret.items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end }}
{{- range $name, $map := .values.configMaps }}
- name: {{ $.prefix }}configmap-{{ $name }}
  configMap:
    name: {{ tpl $map.configMapName $context }}
    {{- if $map.optional }}
    optional: true
    {{- end }}
    {{- with $map.items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- range $name, $token := .values.tokens }}
- name: {{ $.prefix }}token-{{ $name }}
  projected:
    defaultMode: {{ $.mode }}
    sources:
      - serviceAccountToken:
          path: token
          {{- with $token.audience }}
          audience: {{ . | quote }}
          {{- end }}
          expirationSeconds: {{ include "s3veil.number" ($token.expirationSeconds | default 3600) }}
{{- end }}
{{- end }}
