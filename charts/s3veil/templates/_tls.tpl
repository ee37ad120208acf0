{{/* The Secret with the S3 port's certificate: an existing one, or cert-manager's. */}}
{{- define "s3veil.tlsSecretName" -}}
{{- $tls := .values.tls }}
{{- if and $tls.secretName $tls.certManager.enabled }}
{{- fail "tls: secretName and certManager.enabled are both set. Remove one of the two" }}
{{- end }}
{{- if $tls.secretName }}
{{- tpl $tls.secretName .context }}
{{- else if $tls.certManager.enabled }}
{{- printf "%s-tls" (include "s3veil.fullname" .) }}
{{- else }}
{{- fail "tls.enabled: no certificate. Set tls.secretName to a Secret of type kubernetes.io/tls, or tls.certManager.enabled" }}
{{- end }}
{{- end }}
