{{/*
s3veil as a native sidecar of any pod: an init container that stays (restartPolicy: Always), is up before the application starts,
ends after it, and keeps no Job from ending.

In a chart that depends on this one, with `gateway.enabled: false` and `sidecar.enabled: true` under `s3veil:` in its values:

    spec:
      {{- include "s3veil.sidecar" (dict "context" $ "values" .Values.s3veil "spec" (include "app.podSpec" . | fromYaml)) | nindent 6 }}

or, to put the parts where one likes, "s3veil.sidecar.containers" into initContainers and "s3veil.sidecar.volumes" into volumes.

The S3 port is on loopback: only the containers of the pod reach it. The admin port has to be on the pod's address, because the
kubelet probes from outside, and an image without a shell has no other probe.
*/}}

{{- define "s3veil.sidecar.configMapName" -}}
{{ include "s3veil.fullname" . }}-sidecar
{{- end }}

{{/* A pod's spec with the sidecar in it, first among the init containers, so that others may use it. */}}
{{- define "s3veil.sidecar" -}}
{{- $spec := deepCopy .spec }}
{{- $sidecar := include "s3veil.sidecar.containers" . | fromYamlArray }}
{{- $_ := set $spec "initContainers" (concat $sidecar ($spec.initContainers | default list)) }}
{{- $_ := set $spec "volumes" (concat ($spec.volumes | default list) (include "s3veil.sidecar.volumes" . | fromYamlArray)) }}
{{- toYaml $spec }}
{{- end }}

{{- define "s3veil.sidecar.containers" -}}
{{- $sidecar := .values.sidecar -}}
- name: s3veil
  image: {{ include "s3veil.image" . }}
  imagePullPolicy: {{ .values.image.pullPolicy }}
  restartPolicy: Always
  {{- /* The flag wins over file and environment: nothing in the values can open the S3 port to the network. */}}
  args: [serve, --config, /etc/s3veil/proxy.toml, --listen, "127.0.0.1:{{ include "s3veil.number" $sidecar.port }}"]
  {{- with include "s3veil.env" . | trim }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .values.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: s3veil-admin
      containerPort: {{ include "s3veil.port" $sidecar.adminListen }}
  {{- /* It answers once the configuration is good, every EK has sealed a probe and the S3 port is open. */}}
  startupProbe:
    httpGet: { path: /healthz, port: s3veil-admin }
    periodSeconds: 1
    failureThreshold: {{ include "s3veil.number" $sidecar.startupSeconds }}
  livenessProbe:
    httpGet: { path: /healthz, port: s3veil-admin }
    periodSeconds: 10
    failureThreshold: 3
  {{- if $sidecar.readiness }}
  readinessProbe:
    httpGet: { path: /readyz, port: s3veil-admin }
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: 3
  {{- end }}
  resources:
    {{- toYaml $sidecar.resources | nindent 4 }}
  securityContext:
    {{- include "s3veil.containerSecurityContext" . | nindent 4 }}
  volumeMounts:
    {{- include "s3veil.volumeMounts" (dict "context" .context "values" .values "prefix" "s3veil-") | nindent 4 }}
    {{- with .values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "s3veil.sidecar.volumes" -}}
{{- include "s3veil.volumes" (dict "context" .context "values" .values "prefix" "s3veil-" "mode" 292 "configMap" (include "s3veil.sidecar.configMapName" .)) }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
