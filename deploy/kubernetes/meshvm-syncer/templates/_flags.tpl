{{/* Flags of meshvm-syncer, a JSON list. What is as the program has it is left out, so that its defaults hold. */}}
{{- define "meshvm.flags" -}}
{{- $v := .Values -}}
{{- $flags := list "--listen=:15054" "--http-listen=:15055" "--tls-cert-file=/etc/meshvm/tls/tls.crt" "--tls-private-key-file=/etc/meshvm/tls/tls.key" -}}
{{- if or $v.identity.clientCA.configMap $v.identity.clientCA.secret -}}
{{- $flags = append $flags "--client-ca-file=/etc/meshvm/client-ca/ca.crt" -}}
{{- end -}}
{{- if $v.identity.tokenReview }}{{ $flags = append $flags "--token-review" }}{{ end -}}
{{- if $v.istio.sidecarScope }}{{ $flags = append $flags "--sidecar-scope" }}{{ end -}}
{{- $flags = append $flags (printf "--authorization=%s" (include "meshvm.authorization" .)) -}}
{{- range $pair := list
  (list "cluster-domain" $v.clusterDomain)
  (list "default-export" $v.defaultExport)
  (list "istio-mesh-config" $v.istio.meshConfig)
  (list "http-authorization" $v.http.authorization)
  (list "replicas" (printf "%s/%s-metrics" .Release.Namespace (include "meshvm.fullname" .)))
  (list "token-jwks" $v.identity.tokenJWKS)
  (list "token-issuer" $v.identity.tokenIssuer)
  (list "token-audience" $v.identity.tokenAudience)
  (list "identity-recheck" $v.identity.recheck)
  (list "identity-qps" (int64 $v.identity.qps))
  (list "vip" $v.vip.mode)
  (list "vip-ranges" (join "," $v.vip.ranges))
  (list "vip-quarantine" $v.vip.quarantine)
  (list "vip-qps" (int64 $v.vip.qps))
  (list "vip-pending" $v.vip.pending)
  (list "vip-pending-timeout" $v.vip.pendingTimeout)
  (list "max-connections" (int64 $v.limits.maxConnections))
  (list "max-connections-per-address" (int64 $v.limits.maxConnectionsPerAddress))
  (list "max-streams-per-identity" (int64 $v.limits.maxStreamsPerIdentity))
  (list "max-connection-age" $v.limits.maxConnectionAge)
  (list "full-syncs" (int64 $v.limits.fullSyncs))
  (list "full-sync-queue" (int64 $v.limits.fullSyncQueue))
  (list "shrink-guard-minimum" (int64 $v.shrinkGuard.minimum))
  (list "shrink-guard-window" $v.shrinkGuard.window)
  (list "shrink-guard-hold" $v.shrinkGuard.hold)
  (list "log-level" $v.log.level)
  (list "log-format" $v.log.format) -}}
{{- if index $pair 1 }}{{ $flags = append $flags (printf "--%s=%v" (index $pair 0) (index $pair 1)) }}{{ end -}}
{{- end -}}
{{- $flags = append $flags (printf "--shrink-guard-share=%v" $v.shrinkGuard.share) -}}
{{- concat $flags $v.extraArgs | toJson -}}
{{- end -}}
