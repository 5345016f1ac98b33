{{/* Name of all objects: the release, or the release and the chart's name where the release does not have it. */}}
{{- define "meshvm.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "meshvm.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: syncer
{{- end -}}

{{- define "meshvm.dns.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: dns
{{- end -}}

{{/* Labels that objects have beside the selector's. */}}
{{- define "meshvm.about" -}}
app.kubernetes.io/part-of: meshvm
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "meshvm.labels" -}}
{{ include "meshvm.selector" . }}
{{ include "meshvm.about" . }}
{{- end -}}

{{- define "meshvm.dns.labels" -}}
{{ include "meshvm.dns.selector" . }}
{{ include "meshvm.about" . }}
{{- end -}}

{{- define "meshvm.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "meshvm.fullname" . -}}
{{- else -}}
{{- fail "serviceAccount.create is false: name the account that is there in serviceAccount.name" -}}
{{- end -}}
{{- end -}}

{{- define "meshvm.tlsSecretName" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "meshvm.fullname" .)) -}}
{{- end -}}

{{/* Reference of an image: by digest, else by tag, else by the chart's version. */}}
{{- define "meshvm.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Whether tokens are taken, and so reviews of access needed: "true" or nothing. */}}
{{- define "meshvm.tokens" -}}
{{- if or .Values.identity.tokenReview .Values.identity.tokenJWKS }}true{{ end -}}
{{- end -}}

{{- define "meshvm.authorization" -}}
{{- .Values.identity.authorization | default (ternary "rbac" "identity" (eq (include "meshvm.tokens" .) "true")) -}}
{{- end -}}

{{/* Names that the Service has within the cluster. */}}
{{- define "meshvm.serviceNames" -}}
{{- $service := include "meshvm.fullname" . -}}
{{- $names := list (printf "%s.%s.svc" $service .Release.Namespace) (printf "%s.%s.svc.%s" $service .Release.Namespace .Values.clusterDomain) -}}
{{- concat $names .Values.tls.dnsNames | uniq | toJson -}}
{{- end -}}

{{/* Nine tenths of a memory limit in Mi or Gi, for GOMEMLIMIT; nothing for other units, and without a limit. */}}
{{- define "meshvm.goMemoryLimit" -}}
{{- $limit := . | toString -}}
{{- if regexMatch "^[0-9]+Mi$" $limit -}}
{{- printf "%dKiB" (div (mul (trimSuffix "Mi" $limit | int64) 1024 9) 10) -}}
{{- else if regexMatch "^[0-9]+Gi$" $limit -}}
{{- printf "%dKiB" (div (mul (trimSuffix "Gi" $limit | int64) 1048576 9) 10) -}}
{{- end -}}
{{- end -}}
