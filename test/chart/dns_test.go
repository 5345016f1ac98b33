//go:build chart

package chart

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/test/programs"
)

// TestDNSInTheCluster: CoreDNS runs as the chart's Deployment for it says, with a token of its ServiceAccount, and the cluster's own DNS sends
// it the domains of ServiceEntries, as the notes say.
func TestDNSInTheCluster(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	upstream := programs.Upstream(t)
	c.install("helm", "{inClusterDNS: {enabled: true, upstreams: ['"+upstream+"'], stubDomains: [example.com]}}")
	syncer := c.schedule(t)
	syncer.start(t)
	syncer.ready(t)

	name := release + "-dns"
	deployment, err := c.clients.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := deployment.Spec.Template.Spec
	// What is mounted as a single file stays as it was at the start: the Corefile's reload would see no change.
	for _, mount := range spec.Containers[0].VolumeMounts {
		if mount.SubPath != "" {
			t.Errorf("got %+v, want the whole volume", mount)
		}
	}
	if at := spec.Containers[0].Args[1]; !slices.ContainsFunc(spec.Containers[0].VolumeMounts, func(mount corev1.VolumeMount) bool {
		return mount.Name == "corefile" && mount.MountPath+"/Corefile" == at
	}) {
		t.Errorf("CoreDNS reads %s, want it in the volume corefile", at)
	}
	var audience string
	for _, volume := range spec.Volumes {
		if volume.Projected != nil {
			audience = volume.Projected.Sources[0].ServiceAccountToken.Audience
		}
	}
	token, err := c.plane.ServiceAccountToken(t.Context(), namespace, spec.ServiceAccountName, audience)
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.clients.CoreV1().ConfigMaps(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	for path, content := range map[string]string{"token/token": token, "ca/ca.crt": string(c.secret("meshvm-syncer-tls").Data["ca.crt"])} {
		file := filepath.Join(files, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As Kubernetes tells pods of a Service that was there before them.
	host, port, err := net.SplitHostPort(syncer.addresses["grpc-watch"])
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MESHVM_SYNCER_SERVICE_HOST", host)
	t.Setenv("MESHVM_SYNCER_SERVICE_PORT", port)
	address := programs.FreeAddress(t)
	here := strings.NewReplacer(".:1053 {", "."+address[strings.Index(address, ":"):]+" {\n    bind 127.0.0.1", ":15056", programs.FreeAddress(t), ":15057", programs.FreeAddress(t),
		":9153", programs.FreeAddress(t), "/etc/meshvm/", files+"/", "/var/lib/meshvm/", t.TempDir()+"/")
	programs.Serve(t, here.Replace(config.Data["Corefile"]))
	dnsInTheCluster := &vm{t: t, address: address}
	dnsInTheCluster.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")

	// The cluster's own DNS, with the lines that the notes say.
	notes, err := helm(t.Context(), t.TempDir(), "helm", "get", "notes", release, "--namespace", namespace, "--kubeconfig", c.plane.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)  example\.com:53 \{.*?\n  \}`).FindString(notes)
	if block == "" {
		t.Fatalf("The notes have no server block for example.com:\n%s", notes)
	}
	own := programs.FreeAddress(t)
	programs.Serve(t, strings.NewReplacer("example.com:53 {", "example.com"+own[strings.Index(own, ":"):]+" {\n bind 127.0.0.1", "CLUSTER_IP", address).Replace(block))
	pods := &vm{t: t, address: own}
	pods.answers("literal.example.com", dns.TypeA, "192.0.2.77")
	pods.answers("elsewhere.example.com", dns.TypeA, programs.Outside)
}
