{{/* Values that cannot be together. The schema has said what each of them may be. */}}
{{- define "meshvm.refuse" -}}
{{- $v := .Values -}}
{{- $certificates := or $v.identity.clientCA.configMap $v.identity.clientCA.secret -}}
{{- if and $v.identity.clientCA.configMap $v.identity.clientCA.secret -}}
{{- fail "identity.clientCA names both a configMap and a secret: take one" -}}
{{- end -}}
{{- if not (or $certificates (include "meshvm.tokens" .)) -}}
{{- fail "no VM could prove who it is: set identity.tokenReview, identity.tokenJWKS, or identity.clientCA.configMap or .secret" -}}
{{- end -}}
{{- if and $v.identity.tokenIssuer (not $v.identity.tokenJWKS) -}}
{{- fail "identity.tokenIssuer says who issues tokens that identity.tokenJWKS verifies, which is empty" -}}
{{- end -}}
{{- if ne $v.vip.mode "allocate" -}}
{{- if or $v.vip.ranges $v.vip.quarantine $v.vip.qps -}}
{{- fail "vip.ranges, vip.quarantine and vip.qps are of vip.mode allocate; with status it is Istio that gives virtual IPs" -}}
{{- end -}}
{{- end -}}
{{- if and $v.vip.pendingTimeout (ne $v.vip.pending "nodata") -}}
{{- fail "vip.pendingTimeout is of vip.pending nodata" -}}
{{- end -}}
{{- if and (eq $v.tls.mode "cert-manager") (not $v.tls.certManager.issuerRef) -}}
{{- fail "tls.mode is cert-manager: name the Issuer in tls.certManager.issuerRef" -}}
{{- end -}}
{{- if and (eq $v.tls.mode "self-signed") $v.tls.caBundle -}}
{{- fail "tls.caBundle is of tls.mode secret and cert-manager; self-signed writes ConfigMap meshvm-ca by itself" -}}
{{- end -}}
{{- if and (eq $v.service.type "ClusterIP") (or $v.service.nodePort $v.service.loadBalancerClass $v.service.loadBalancerSourceRanges $v.service.externalTrafficPolicy) -}}
{{- fail "service.nodePort, .loadBalancerClass, .loadBalancerSourceRanges and .externalTrafficPolicy are of service.type LoadBalancer or NodePort" -}}
{{- end -}}
{{- if and (ne $v.service.type "LoadBalancer") (or $v.service.loadBalancerClass $v.service.loadBalancerSourceRanges) -}}
{{- fail "service.loadBalancerClass and .loadBalancerSourceRanges are of service.type LoadBalancer" -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor and metrics.podMonitor are both enabled: each syncer would be read twice" -}}
{{- end -}}
{{- if and (eq $v.http.authorization "kubernetes") (or $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled) (not $v.metrics.tokenSecret.name) -}}
{{- fail "http.authorization is kubernetes: metrics.tokenSecret.name must name a Secret with a token that may read metrics" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (not (dig "requests" "cpu" "" ($v.resources | default dict))) -}}
{{- fail "autoscaling is by a share of resources.requests.cpu, which is not set" -}}
{{- end -}}
{{- if and $v.inClusterDNS.enabled (not $v.identity.tokenReview) (ne $v.identity.tokenJWKS "cluster") -}}
{{- fail "inClusterDNS shows the syncer a token of this cluster: set identity.tokenReview, or identity.tokenJWKS to cluster" -}}
{{- end -}}
{{- if and (eq $v.tls.mode "self-signed") (lt (int $v.tls.selfSigned.authorityDays) (int $v.tls.selfSigned.certificateDays)) -}}
{{- fail "tls.selfSigned.authorityDays is less than .certificateDays: the authority would end before what it signs" -}}
{{- end -}}
{{- if ge (int $v.preStopSeconds) (int $v.terminationGracePeriodSeconds) -}}
{{- fail "preStopSeconds is not less than terminationGracePeriodSeconds: a syncer would be killed before it is told to end" -}}
{{- end -}}
{{- if regexMatch "^0+%$" (toString $v.podDisruptionBudget.maxUnavailable) -}}
{{- fail "podDisruptionBudget.maxUnavailable is 0%: no node could be drained" -}}
{{- end -}}
{{- if regexMatch "^[0-9]" (include "meshvm.fullname" .) -}}
{{- fail (printf "%s begins with a digit, which no Service may: set fullnameOverride" (include "meshvm.fullname" .)) -}}
{{- end -}}
{{- range $flag := $v.extraArgs -}}
{{- if regexMatch "^--(kubeconfig|manifests|insecure|listen|http-listen|http-authorization|istio-mesh-config|sidecar-scope|tls-[a-z-]+|vip|vip-namespace|vip-state-file)(=|$)" $flag -}}
{{- fail (printf "extraArgs has %s, which other objects of the chart depend on: there is a value for it, or it has no meaning in a cluster" $flag) -}}
{{- end -}}
{{- end -}}
{{- end -}}
