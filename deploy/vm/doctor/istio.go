package doctor

import (
	"context"
	"regexp"
	"slices"
	"strings"
)

// Files of Istio's package for VMs.
const (
	clusterEnv = "/var/lib/istio/envoy/cluster.env"
	sidecarEnv = "/var/lib/istio/envoy/sidecar.env"
	meshYAML   = "/etc/istio/config/mesh"
)

// captureOn: the proxy's metadata, or Envoy's, says that DNS is captured.
var captureOn = regexp.MustCompile(`(?m)^\s*"?ISTIO_META_DNS_CAPTURE"?\s*:\s*["']?true\b`)

// istio looks whether Istio's agent leaves DNS to CoreDNS, and lets it reach the syncer.
func istio(ctx context.Context, e *examination) []Finding {
	if !e.exists("/var/lib/istio") && !e.exists(meshYAML) {
		return []Finding{fine("Istio's agent is not installed")}
	}
	environment := make(map[string]string)
	for _, file := range []string{sidecarEnv, clusterEnv} {
		content, err := e.read(file)
		if err != nil {
			return []Finding{unknown("run doctor as root", err)}
		}
		for line := range strings.Lines(content) {
			name, value, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
			if found && !strings.HasPrefix(name, "#") {
				environment[name] = strings.Trim(value, `'"`)
			}
		}
	}
	var findings []Finding
	const capture = "ISTIO_META_DNS_CAPTURE"
	const takeOut = "take " + capture + " out of " + clusterEnv + ", and restart istio.service"
	switch value, there := environment[capture]; {
	case value == "true":
		findings = append(findings, bad(Problem, takeOut, "%s=true in %s: Istio's agent answers DNS in place of CoreDNS", capture, clusterEnv))
	case there:
		findings = append(findings, bad(Warning, takeOut, "%s=%s in %s overrides the mesh's configuration: Envoy does not listen on virtual IPs", capture, value, clusterEnv))
	}
	content, err := e.read(meshYAML)
	switch {
	case err != nil:
		findings = append(findings, unknown("run doctor as root", err))
	case !captureOn.MatchString(content):
		findings = append(findings, bad(Warning, capture+`: "true" under proxyMetadata in `+meshYAML+", and restart istio.service", "Envoy was not told to listen on virtual IPs (%s)", meshYAML))
	}
	excluded := strings.Split(environment["ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"], ",")
	if environment["ISTIO_SERVICE_CIDR"] == "*" && !slices.Contains(excluded, "meshvm") {
		findings = append(findings, bad(Warning, "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=meshvm in "+sidecarEnv+", and restart istio.service",
			"all that CoreDNS sends goes through Envoy, the stream to the syncer, too"))
	}
	return orFine(append(findings, istioRules(ctx, e)...), "Istio's agent leaves DNS alone")
}

// istioRules looks for rules that send DNS to Istio's agent.
func istioRules(ctx context.Context, e *examination) []Finding {
	rules, err := e.run(ctx, "iptables-save", "-t", "nat")
	if err != nil {
		return []Finding{unknown("run doctor as root, with iptables installed", err)}
	}
	for line := range strings.Lines(rules) {
		if strings.Contains(line, "--to-ports 15053") {
			return []Finding{bad(Problem, "restart istio.service once "+clusterEnv+" has no ISTIO_META_DNS_CAPTURE", "a rule of iptables sends DNS to Istio's agent: %s", strings.TrimSpace(line))}
		}
	}
	return nil
}
