{{/*
The alerts, as a list. Each has a heading of its name in docs/operations.md, "Alerts".

A counter that appears with its first event has no rise that Prometheus could see, so where one event is enough the new series
counts too.
*/}}
{{- define "s3veil.alerts" -}}
{{- $rule := .values.prometheusRule }}
{{- $sel := $rule.selector | default (printf "namespace=%q,job=%q" .context.Release.Namespace .context.Release.Name) }}
{{- $limits := .values.config.limits | default dict }}
{{- $inFlight := include "s3veil.number" ($limits.in_flight | default 1024) }}
{{- $connections := include "s3veil.number" ($limits.connections | default 10000) }}
- alert: S3veilDown
  expr: absent(s3veil_build_info{ {{- $sel -}} })
  for: 5m
  severity: critical
  summary: 'No s3veil answers.'
  description: 'Prometheus has had no metrics of any replica for 5 minutes. Applications have no store.'
- alert: S3veilStoreDown
  expr: min by (namespace, pod) (s3veil_store_up{ {{- $sel -}} }) == 0
  for: 1m
  severity: critical
  summary: 'The store is away.'
  description: {{`'Replica {{ $labels.pod }} can''t reach the store; requests are answered with 503.'`}}
- alert: S3veilKmsDown
  expr: min by (namespace, kms) (s3veil_kms_up{ {{- $sel -}} }) == 0
  for: 1m
  severity: critical
  summary: {{`'KMS {{ $labels.kms }} is away.'`}}
  description: {{`'At least one replica has no answer from KMS {{ $labels.kms }}. Cached keys go on until cache.ttl_secs is over; then its objects are 503.'`}}
- alert: S3veilIntegrityFailure
  expr: >-
    sum by (namespace, operation) (
    increase(s3veil_integrity_failures_total{ {{- $sel -}} }[10m]) > 0
    or (s3veil_integrity_failures_total{ {{- $sel -}} } unless s3veil_integrity_failures_total{ {{- $sel -}} } offset 10m > 0)
    ) > 0
  for: 0m
  severity: critical
  summary: 'A stored object does not authenticate.'
  description: {{`'{{ $labels.operation }} met an object that was altered, cut, moved or swapped in the store. Its bytes were not served.'`}}
- alert: S3veilErrors
  expr: >-
    sum by (namespace, blame) (rate(s3veil_errors_total{ {{- $sel -}} ,blame!="client"}[5m]))
    / on (namespace) group_left () sum by (namespace) (rate(s3veil_requests_total{ {{- $sel -}} }[5m]))
    > {{ $rule.errorRatio }}
  for: 10m
  severity: warning
  summary: {{`'Requests fail, by the fault of: {{ $labels.blame }}.'`}}
  description: {{`'{{ $value | humanizePercentage }} of requests end in an error whose fault is of: {{ $labels.blame }}.'`}}
- alert: S3veilStoreErrors
  expr: >-
    sum by (namespace) (rate(s3veil_store_requests_total{ {{- $sel -}} ,status=~"5..|unreachable|timeout"}[5m]))
    / sum by (namespace) (rate(s3veil_store_requests_total{ {{- $sel -}} }[5m]))
    > {{ $rule.errorRatio }}
  for: 10m
  severity: warning
  summary: 'The store fails requests.'
  description: {{`'{{ $value | humanizePercentage }} of what s3veil asks the store ends in 5xx, a timeout or no connection.'`}}
- alert: S3veilSlow
  expr: >-
    histogram_quantile(0.99, sum by (namespace, operation, le)
    (rate(s3veil_request_seconds_bucket{ {{- $sel -}} ,operation=~"GetObject|HeadObject|DeleteObject|ListObjects.*"}[5m])))
    > {{ $rule.latencySeconds }}
  for: 15m
  severity: warning
  summary: {{`'{{ $labels.operation }} is slow.'`}}
  description: {{`'One in a hundred waits longer than {{ $value | humanizeDuration }} for the head of its answer.'`}}
- alert: S3veilBodiesCut
  expr: >-
    sum by (namespace) (rate(s3veil_bodies_cut_total{ {{- $sel -}} }[10m]))
    / sum by (namespace) (rate(s3veil_requests_total{ {{- $sel -}} }[10m]))
    > {{ $rule.errorRatio }}
  for: 10m
  severity: warning
  summary: 'Answers break off.'
  description: {{`'{{ $value | humanizePercentage }} of answers ended before their body did.'`}}
- alert: S3veilShedding
  expr: sum by (namespace, limit) (rate(s3veil_shed_total{ {{- $sel -}} }[5m])) > 0
  for: 5m
  severity: warning
  summary: 'Requests are shed.'
  description: {{`'More comes than limits.{{ $labels.limit }} lets in: {{ $value | humanize }} a second are turned away.'`}}
- alert: S3veilNearLimit
  expr: >-
    max by (namespace, pod) (s3veil_in_flight{ {{- $sel -}} }) > 0.8 * {{ $inFlight }}
    or max by (namespace, pod) (s3veil_connections{ {{- $sel -}} }) > 0.8 * {{ $connections }}
  for: 5m
  severity: warning
  summary: 'A replica is near its limits.'
  description: {{`'Replica {{ $labels.pod }} has used more than 80 % of limits.in_flight or limits.connections for 5 minutes.'`}}
- alert: S3veilAuthFailures
  expr: sum by (namespace, reason) (rate(s3veil_auth_failures_total{ {{- $sel -}} }[5m])) > {{ $rule.authFailuresPerSecond }}
  for: 5m
  severity: warning
  summary: {{`'Many requests are refused: {{ $labels.reason }}.'`}}
  description: {{`'{{ $value | humanize }} a second are refused with {{ $labels.reason }}: a client with an old key, a clock that is off, or somebody who tries.'`}}
- alert: S3veilConfigReloadFailed
  expr: min by (namespace, pod) (s3veil_config_last_reload_successful{ {{- $sel -}} }) == 0
  for: 5m
  severity: warning
  summary: 'A changed configuration can''t be used.'
  description: {{`'Replica {{ $labels.pod }} goes on with the configuration before it, and would not start again with this one.'`}}
- alert: S3veilCertificateExpiring
  expr: >-
    min by (namespace) (s3veil_tls_certificate_expiry_timestamp_seconds{ {{- $sel -}} } > 0) - time()
    < 86400 * {{ include "s3veil.number" $rule.certificateDays }}
  for: 1h
  severity: warning
  summary: 'The certificate of the S3 port ends soon.'
  description: {{`'It ends in {{ $value | humanizeDuration }}, and nothing has renewed it.'`}}
{{- if $rule.plaintextReads }}
- alert: S3veilPlaintextReads
  expr: >-
    sum by (namespace) (
    increase(s3veil_plaintext_reads_total{ {{- $sel -}} }[10m]) > 0
    or (s3veil_plaintext_reads_total{ {{- $sel -}} } unless s3veil_plaintext_reads_total{ {{- $sel -}} } offset 10m > 0)
    ) > 0
  for: 0m
  severity: warning
  summary: 'An object that is not sealed was served.'
  description: 'Objects without an envelope were read, where all are expected to be sealed.'
{{- end }}
{{- end }}
