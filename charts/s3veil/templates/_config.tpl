{{/*
proxy.toml out of `config`.

Helm's own toToml makes 30.0 of 30 where a number came through a values file, which TOML takes for another type, so values are
written here: whole numbers as whole numbers, sections as sections.
*/}}

{{/* One value within a line. */}}
{{- define "s3veil.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- $pairs = append $pairs (printf "%s = %s" (include "s3veil.toml.key" $key) (include "s3veil.toml.value" $value)) }}
{{- end }}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else if kindIs "slice" . -}}
{{- $items := list }}
{{- range . }}{{ $items = append $items (include "s3veil.toml.value" .) }}{{ end -}}
[{{ join ", " $items }}]
{{- else if typeIs "json.Number" . -}}
{{ . }}
{{- else if typeIs "string" . -}}
{{ toRawJson . }}
{{- else if typeIs "float64" . -}}
{{- if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ printf "%v" . }}{{ end }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{- define "s3veil.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end }}

{{/* Whether a value stands within a line: all but tables, and lists of them. Where a secret comes from is one value. */}}
{{- define "s3veil.toml.inline" -}}
{{- if kindIs "map" . }}
{{- if and (eq (len .) 1) (or (hasKey . "file") (hasKey . "env")) }}yes{{ end }}
{{- else if kindIs "slice" . }}
{{- if not (and . (kindIs "map" (first .))) }}yes{{ end }}
{{- else if not (kindIs "invalid" .) }}yes
{{- end }}
{{- end }}

{{/* A table: its own values first, then the tables in it. `path`: its name, `table`: what is in it. */}}
{{- define "s3veil.toml.table" -}}
{{- $path := .path }}
{{- range $key, $value := .table }}
{{- if include "s3veil.toml.inline" $value }}
{{ include "s3veil.toml.key" $key }} = {{ include "s3veil.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- $name := include "s3veil.toml.key" $key }}
{{- if $path }}{{ $name = printf "%s.%s" $path $name }}{{ end }}
{{- if include "s3veil.toml.inline" $value }}
{{- else if kindIs "map" $value }}
{{- $own := not $value }}
{{- range $value }}{{ if include "s3veil.toml.inline" . }}{{ $own = true }}{{ end }}{{ end }}
{{- if $own }}

[{{ $name }}]
{{- end }}
{{- include "s3veil.toml.table" (dict "path" $name "table" $value) }}
{{- else if kindIs "slice" $value }}
{{- range $value }}

[[{{ $name }}]]
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{ include "s3veil.toml.key" $key }} = {{ include "s3veil.toml.value" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What is missing for any start, said here rather than by a pod that can't start. */}}
{{- define "s3veil.config.complete" -}}
{{- $config := .config }}
{{- if not (dig "endpoint" "" ($config.store | default dict)) }}
{{- fail "config.store.endpoint: missing. Write the store's address, for instance http://minio.minio.svc:9000" }}
{{- end }}
{{- if not (dig "credentials" "default" dict ($config.store | default dict)) }}
{{- fail "config.store.credentials.default: missing. Write access_key and secret_key, each { file: ... } or { env: ... } of a Secret in `secrets`, or chain: true for the role of the pod at AWS" }}
{{- end }}
{{- if not $config.kms }}
{{- fail "config.kms: none. Add one, for instance config.kms.vault; docs/kms.md lists the kinds" }}
{{- end }}
{{- if not $config.policy }}
{{- fail "config.policy: no rules, so that every request would be denied. Add - { bucket: \"*\", ek: NAME }" }}
{{- end }}
{{- if and (ne (dig "mode" "sigv4" ($config.auth | default dict)) "trusted") (not (dig "identities" list ($config.auth | default dict))) }}
{{- fail "config.auth.identities: none, so that nobody could sign in. Add - { name: ..., access_key: ..., secret_key: { file: ... } }" }}
{{- end }}
{{- end }}

{{/* The gateway's settings: `config`, with what other values say about it. */}}
{{- define "s3veil.config.gateway" -}}
{{- $config := deepCopy .values.config }}
{{- if eq (dig "mode" "sigv4" ($config.auth | default dict)) "trusted" }}
{{- fail "config.auth.mode: 'trusted' lets in whoever connects, and a gateway listens on the pod's network. Write sigv4; trusted is for the sidecar (sidecar.auth)" }}
{{- end }}
{{- include "s3veil.config.complete" (dict "config" $config) }}
{{- if .values.tls.enabled }}
{{- $tls := dict "certificate_file" "/run/secrets/s3-tls/tls.crt" "key_file" "/run/secrets/s3-tls/tls.key" }}
{{- if .values.tls.clientCa.name }}
{{- $_ := set $tls "client_ca_file" (printf "/run/secrets/s3-client-ca/%s" .values.tls.clientCa.key) }}
{{- $_ := set $tls "client_certificates" .values.tls.clientCa.certificates }}
{{- end }}
{{- $_ := set $config "tls" $tls }}
{{- end }}
{{- include "s3veil.config.text" (dict "config" $config "context" .context "values" .values) }}
{{- end }}

{{/* The sidecar's: the same on loopback, with limits of its own. */}}
{{- define "s3veil.config.sidecar" -}}
{{- $config := omit (deepCopy .values.config) "tls" }}
{{- $sidecar := .values.sidecar }}
{{- $_ := set $config "listen" (printf "127.0.0.1:%s" (include "s3veil.number" $sidecar.port)) }}
{{- $_ := set $config "admin" (set ($config.admin | default dict) "listen" $sidecar.adminListen) }}
{{- $_ := set $config "auth" (set ($config.auth | default dict) "mode" $sidecar.auth) }}
{{- $limits := $config.limits | default dict }}
{{- range $key, $value := $sidecar.limits }}{{ $_ := set $limits $key $value }}{{ end }}
{{- $_ := set $config "limits" $limits }}
{{- include "s3veil.config.complete" (dict "config" $config) }}
{{- include "s3veil.config.text" (dict "config" $config "context" .context "values" .values) }}
{{- end }}

{{- define "s3veil.config.text" -}}
# Written by Helm out of `config`. s3veil reads it again when it changes.
{{ include "s3veil.toml.table" (dict "path" "" "table" .config) | trim }}
{{- with .values.extraConfig }}

{{ tpl . $.context | trim }}
{{- end }}
{{- end }}

{{/* Seconds from SIGTERM to the end at the latest, as the configuration has them, and some to spare. */}}
{{- define "s3veil.graceSeconds" -}}
{{- $limits := .values.config.limits | default dict }}
{{- $needed := add (int (include "s3veil.number" ($limits.drain_delay_secs | default 0))) (int (include "s3veil.number" ($limits.drain_secs | default 30))) }}
{{- if kindIs "invalid" .values.terminationGracePeriodSeconds }}
{{- add $needed 10 }}
{{- else }}
{{- $given := int (include "s3veil.number" .values.terminationGracePeriodSeconds) }}
{{- if le $given $needed }}
{{- fail (printf "terminationGracePeriodSeconds: %d is no longer than config.limits.drain_delay_secs + drain_secs = %d, so that requests at work would be cut off. Raise it, or leave it out" $given $needed) }}
{{- end }}
{{- $given }}
{{- end }}
{{- end }}
