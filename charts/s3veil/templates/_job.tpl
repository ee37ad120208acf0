{{/*
A Job of `jobs`. Everything here takes context, values and `job`, the entry.
*/}}

{{- define "s3veil.job.labels" -}}
s3veil/job: {{ .job.name }}
{{- end }}

{{- define "s3veil.job.shards" -}}
{{- include "s3veil.number" (.job.shards | default 1) }}
{{- end }}

{{- define "s3veil.job.retries" -}}
{{- include "s3veil.number" (kindIs "invalid" .job.backoffLimit | ternary 6 .job.backoffLimit) }}
{{- end }}

{{/* The pods' settings are the gateway's. Where there is a sidecar only, they are its own: a Job listens on nothing. */}}
{{- define "s3veil.job.configMap" -}}
{{- if and .values.sidecar.enabled (not .values.gateway.enabled) }}
{{- include "s3veil.sidecar.configMapName" . }}
{{- else }}
{{- include "s3veil.fullname" . }}
{{- end }}
{{- end }}

{{/*
Its name. Kubernetes does not let a Job's pods change, and an upgrade that would is refused as a whole: so a Job that is another
has another name (`fixed`: what can't change), and Helm removes the one before. A CronJob may change. Pods of an indexed Job
are hosts of the name and an index, and a CronJob's Jobs get a time of 11 characters: all of it has to fit a host's 63.
*/}}
{{- define "s3veil.job.name" -}}
{{- $name := printf "%s-%s" (include "s3veil.fullname" .) .job.name }}
{{- $room := empty .job.cronSchedule | ternary 63 52 }}
{{- if not .job.cronSchedule }}
{{- $name = printf "%s-%s" $name (.fixed | sha256sum | trunc 8) }}
{{- end }}
{{- $shards := int (include "s3veil.job.shards" .) }}
{{- if gt $shards 1 }}
{{- $room = sub $room (len (printf "-%d" (sub $shards 1))) }}
{{- end }}
{{- if gt (len $name) (int $room) }}
{{- fail (printf "jobs: '%s' makes the name %s, of %d characters, and there is room for %d. Shorten it, or set fullnameOverride to a shorter name" .job.name $name (len $name) (int $room)) }}
{{- end }}
{{- $name }}
{{- end }}

{{/* Its spec, but for what may change while it is there. */}}
{{- define "s3veil.job.fixed" -}}
{{- $sharded := gt (int (include "s3veil.job.shards" .)) 1 -}}
completionMode: {{ $sharded | ternary "Indexed" "NonIndexed" }}
completions: {{ include "s3veil.job.shards" . }}
{{- if $sharded }}
# Each shard for itself: one that fails ends none of the others.
backoffLimitPerIndex: {{ include "s3veil.job.retries" . }}
{{- end }}
podFailurePolicy:
  rules:
    # A node that is drained is no failure: the next pod goes on where this one was.
    - action: Ignore
      onPodConditions: [{ type: DisruptionTarget, status: "True" }]
    # Arguments that the program does not take.
    - action: FailJob
      onExitCodes: { containerName: s3veil, operator: In, values: [2] }
    {{- if eq .job.command "verify" }}
    # What it has found, another run over another sample might not find: it stays found.
    - action: {{ $sharded | ternary "FailIndex" "FailJob" }}
      onExitCodes: { containerName: s3veil, operator: In, values: [1] }
    {{- end }}
template:
  {{- $pod := dict "component" "job" "configMap" (include "s3veil.job.configMap" .) "spreadBy" "batch.kubernetes.io/job-name" }}
  {{- $_ := set $pod "labels" (include "s3veil.job.labels" .) }}
  {{- $_ := set $pod "own" (include "s3veil.job.own" .) }}
  {{- $_ := set $pod "container" (include "s3veil.job.container" .) }}
  {{- if $sharded }}
  {{- $_ := set $pod "env" (include "s3veil.job.index" .) }}
  {{- end }}
  {{- include "s3veil.pod" (merge $pod .) | nindent 2 }}
{{- end }}

{{/* Never: a pod that failed stays, with its log, and the next, which goes on where it was, may be on another node. */}}
{{- define "s3veil.job.own" -}}
restartPolicy: Never
{{- end }}

{{/*
The kubelet replaces $(NAME) in args by the container's own variables, so this one is among them, and not left to the Job's
controller to add. It adds none of a name that is there.
*/}}
{{- define "s3veil.job.index" -}}
- name: JOB_COMPLETION_INDEX
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
{{- end }}

{{/* In place and arguments a $ is doubled, so that the kubelet gives the program what was written. */}}
{{- define "s3veil.job.container" -}}
args:
  - {{ .job.command }}
  - {{ .job.place | replace "$" "$$" | quote }}
  - --config
  - /etc/s3veil/proxy.toml
  {{- range .job.arguments }}
  - {{ include "s3veil.number" . | replace "$" "$$" | quote }}
  {{- end }}
  {{- if gt (int (include "s3veil.job.shards" .)) 1 }}
  - --shard
  - $(JOB_COMPLETION_INDEX)/{{ include "s3veil.job.shards" . }}
  {{- end }}
resources:
  {{- toYaml (.job.resources | default .values.resources) | nindent 2 }}
{{- end }}

{{/* The whole spec; `fixed` as above. */}}
{{- define "s3veil.job.spec" -}}
parallelism: {{ include "s3veil.number" (.job.parallelism | default (include "s3veil.job.shards" .)) }}
{{- if eq (include "s3veil.job.shards" .) "1" }}
backoffLimit: {{ include "s3veil.job.retries" . }}
{{- end }}
{{- if not (kindIs "invalid" .job.ttlSecondsAfterFinished) }}
ttlSecondsAfterFinished: {{ include "s3veil.number" .job.ttlSecondsAfterFinished }}
{{- end }}
{{ .fixed }}
{{- end }}
