{{/*
A pod of this chart's own, the gateway's or a Job's: labels, security, configuration, secrets and where it runs.
Beside context and values it takes
  component   gateway or job
  configMap   the name of the ConfigMap with proxy.toml
  spreadBy    the label that tells one generation of these pods from the next
  own         YAML: what only these pods have in their spec
  container   YAML: what only their container has, args at least
  labels      YAML: more labels; may be left out
  env         YAML: more variables; may be left out
*/}}
{{- define "s3veil.pod" -}}
{{- $values := .values -}}
metadata:
  labels:
    {{- include "s3veil.labels" . | nindent 4 }}
    {{- with .labels }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $values.podLabels }}
    {{- tpl (toYaml .) $.context | nindent 4 }}
    {{- end }}
  annotations:
    # No checksum of the configuration: the gateway takes a changed one by itself, and refuses a bad one without an outage.
    kubectl.kubernetes.io/default-container: s3veil
    {{- with $values.podAnnotations }}
    {{- tpl (toYaml .) $.context | nindent 4 }}
    {{- end }}
spec:
  {{- .own | nindent 2 }}
  serviceAccountName: {{ include "s3veil.serviceAccountName" . }}
  automountServiceAccountToken: {{ $values.serviceAccount.automountToken }}
  # A Service's variables (S3VEIL_ADMIN_PORT and the like) are no settings.
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    # Each mount would else open the keystore's directory to the group, which s3veil refuses.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $values.keystore.enabled $values.keystore.create }}
  initContainers:
    {{- range $index, $ek := $values.keystore.create }}
    - name: create-ek-{{ $index }}
      args: [key, --config, /etc/s3veil/proxy.toml, --kms, {{ $values.keystore.kms }}, create, --if-missing, {{ $ek | quote }}]
      resources:
        requests: { cpu: 10m, memory: 32Mi }
        limits: { memory: 64Mi }
      {{- include "s3veil.container" (omit $ "env") | nindent 6 }}
    {{- end }}
  {{- end }}
  containers:
    - name: s3veil
      {{- .container | nindent 6 }}
      {{- include "s3veil.container" . | nindent 6 }}
  volumes:
    {{- include "s3veil.volumes" (merge (dict "prefix" "" "mode" 288) .) | trim | nindent 4 }}
    {{- if $values.tls.enabled }}
    - name: s3-tls
      secret:
        secretName: {{ include "s3veil.tlsSecretName" . }}
        defaultMode: 288
    {{- if $values.tls.clientCa.name }}
    - name: s3-client-ca
      {{- if eq $values.tls.clientCa.kind "ConfigMap" }}
      configMap:
        name: {{ $values.tls.clientCa.name }}
      {{- else }}
      secret:
        secretName: {{ $values.tls.clientCa.name }}
        defaultMode: 288
        # Of a CA's Secret the certificate, and not its key.
        items:
          - { key: {{ $values.tls.clientCa.key }}, path: {{ $values.tls.clientCa.key }} }
      {{- end }}
    {{- end }}
    {{- end }}
    {{- if $values.keystore.enabled }}
    - name: keystore
      persistentVolumeClaim:
        claimName: {{ $values.keystore.existingClaim | default (printf "%s-keystore" (include "s3veil.fullname" .)) }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "s3veil.affinity" . }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  {{- if $values.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range $values.topologySpread.keys }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "s3veil.selectorLabels" $ | nindent 10 }}
      # Of each generation by itself, so that it ends up spread.
      matchLabelKeys: [{{ $.spreadBy }}]
    {{- end }}
  {{- end }}
{{- end }}

{{/* What every container of such a pod has. Also the certificates: each command reads the configuration whole. */}}
{{- define "s3veil.container" -}}
image: {{ include "s3veil.image" . }}
imagePullPolicy: {{ .values.image.pullPolicy }}
{{- with printf "%s\n%s" (.env | default "") (include "s3veil.env" . | trim) | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{- with .values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "s3veil.containerSecurityContext" . | nindent 2 }}
volumeMounts:
  {{- include "s3veil.volumeMounts" (merge (dict "prefix" "") .) | nindent 2 }}
  {{- if .values.tls.enabled }}
  - name: s3-tls
    mountPath: /run/secrets/s3-tls
    readOnly: true
  {{- if .values.tls.clientCa.name }}
  - name: s3-client-ca
    mountPath: /run/secrets/s3-client-ca
    readOnly: true
  {{- end }}
  {{- end }}
  {{- if .values.keystore.enabled }}
  - name: keystore
    mountPath: /var/lib/s3veil
  {{- end }}
  {{- with .values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Whether the keystore's volume can be on one node only. */}}
{{- define "s3veil.keystore.oneNode" -}}
{{- $keystore := .values.keystore }}
{{- if and $keystore.enabled (not (has "ReadWriteMany" $keystore.accessModes)) (not $keystore.shared) }}yes{{ end }}
{{- end }}

{{/*
`affinity`, and with such a volume that Jobs and the gateway are on one node: whichever runs first chooses it, as a pod that
its own rule selects may be the first.
*/}}
{{- define "s3veil.affinity" -}}
{{- $affinity := dict }}
{{- with .values.affinity }}
{{- $affinity = tpl (toYaml .) $.context | fromYaml }}
{{- end }}
{{- if and (include "s3veil.keystore.oneNode" .) .values.jobs }}
{{- if has "ReadWriteOncePod" .values.keystore.accessModes }}
{{- fail "jobs: the keystore's volume is for one pod (ReadWriteOncePod), and a Job is another one. Make it ReadWriteOnce or ReadWriteMany" }}
{{- end }}
{{- $together := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (omit (include "s3veil.selectorLabels" . | fromYaml) "app.kubernetes.io/component")) }}
{{- $pods := $affinity.podAffinity | default dict }}
{{- $terms := append ($pods.requiredDuringSchedulingIgnoredDuringExecution | default list) $together }}
{{- $_ := set $affinity "podAffinity" (set $pods "requiredDuringSchedulingIgnoredDuringExecution" $terms) }}
{{- end }}
{{- with $affinity }}
{{- toYaml . }}
{{- end }}
{{- end }}
