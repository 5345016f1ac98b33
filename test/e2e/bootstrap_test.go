package e2e

import (
	"context"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// installation is a syncer as it is installed, in the namespace meshvm: behind a load balancer, with a certificate for
// its Service's name, of an authority that a ConfigMap holds.
type installation struct {
	t         *testing.T
	plane     *controlplane.ControlPlane
	clients   kubernetes.Interface
	authority *authority
	namespace string // the VMs'
	address   string // of the syncer
	http      string
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	i := &installation{t: t, plane: controlplane.Start(t), authority: newAuthority(t), address: programs.FreeAddress(t), http: programs.FreeAddress(t)}
	var err error
	if i.clients, err = kubernetes.NewForConfig(i.plane.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	i.namespace = i.plane.Namespace(t)
	i.authority.issue("server", &x509.Certificate{DNSNames: []string{"meshvm-syncer.meshvm.svc"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	i.create("meshvm")
	return i
}

// create makes what the cluster has of meshvm.
func (i *installation) create(namespace string) {
	i.t.Helper()
	ctx, options := i.t.Context(), metav1.CreateOptions{}
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	check := func(err error) {
		i.t.Helper()
		if err != nil && !apierrors.IsAlreadyExists(err) {
			i.t.Fatal(err)
		}
	}
	_, err := i.clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: named(namespace)}, options)
	check(err)
	ca, err := os.ReadFile(i.authority.file("root-cert"))
	check(err)
	_, err = i.clients.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: named("meshvm-ca"), Data: map[string]string{"ca.crt": string(ca)}}, options)
	check(err)
	host, port, err := net.SplitHostPort(i.address)
	check(err)
	number, err := strconv.ParseInt(port, 10, 32)
	check(err)
	service, err := i.clients.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
		ObjectMeta: named("meshvm-syncer"),
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Name: "grpc", Port: int32(number)}}},
	}, options)
	check(err)
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: host}}
	_, err = i.clients.CoreV1().Services(namespace).UpdateStatus(ctx, service, metav1.UpdateOptions{})
	check(err)
	for _, grant := range []func(context.Context) error{i.plane.CreateWatcherRole, i.plane.GrantSyncerRole, i.plane.GrantSyncerIdentityRole} {
		check(grant(ctx))
	}
}

// meshvmctl runs it as the operator, and returns what it says once it has ended well.
func (i *installation) meshvmctl(args ...string) string {
	i.t.Helper()
	process := programs.Start(i.t, programs.Operator, append(args, "--kubeconfig", i.plane.Kubeconfig(), "--namespace", i.namespace, "--service-account", "vm")...)
	if code := process.Wait(i.t); code != 0 {
		i.t.Fatalf("meshvmctl %s: got exit code %d, want 0:\n%s", strings.Join(args, " "), code, process.Output())
	}
	return process.Output()
}

// boot starts CoreDNS on a bundle as it was written, but for what belongs to this machine: its ports, and where the snapshot is.
func (i *installation) boot(bundle string) *machine {
	i.t.Helper()
	m := &machine{
		t: i.t, address: programs.FreeAddress(i.t), ready: programs.FreeAddress(i.t), metrics: programs.FreeAddress(i.t),
		snapshot: filepath.Join(i.t.TempDir(), "registry.snapshot"), corefile: filepath.Join(bundle, "Corefile"),
	}
	_, port, err := net.SplitHostPort(m.address)
	if err != nil {
		i.t.Fatal(err)
	}
	content, err := os.ReadFile(m.corefile)
	if err != nil {
		i.t.Fatal(err)
	}
	text := string(content)
	for _, replaced := range [][2]string{
		{"\n. {", "\n.:" + port + " {"}, {"health 127.0.0.1:15056", "health " + programs.FreeAddress(i.t)},
		{"ready 127.0.0.1:15057", "ready " + m.ready}, {"prometheus 127.0.0.1:9153", "prometheus " + m.metrics},
		{"/var/lib/meshvm/registry.snapshot", m.snapshot},
	} {
		if strings.Count(text, replaced[0]) != 1 {
			i.t.Fatalf("Got %d of %q in\n%s\nwant 1", strings.Count(text, replaced[0]), replaced[0], text)
		}
		text = strings.Replace(text, replaced[0], replaced[1], 1)
	}
	write(i.t, bundle, "Corefile", text)
	m.boot()
	return m
}

// TestBootstrapWithoutSyncer: what was written starts, and waits.
func TestBootstrapWithoutSyncer(t *testing.T) {
	i := newInstallation(t)
	for name, flags := range map[string][]string{
		"what is found": nil,
		"everything given": {"--syncer", programs.FreeAddress(t) + "," + programs.FreeAddress(t), "--tls-server-name", "spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer",
			"--node", "vm-1.example.org", "--cluster-domain", "k8s.test", "--ca-file", i.authority.file("root-cert")},
	} {
		t.Run(name, func(t *testing.T) {
			bundle := filepath.Join(t.TempDir(), "vm")
			i.meshvmctl(slices.Concat([]string{"bootstrap", "--create-service-account", "--out", bundle, "--install-dir", bundle, "--upstream", programs.Upstream(t)}, flags)...)
			m := i.boot(bundle)
			m.answersNow("www.example.net.", dns.TypeA, programs.Outside)
			domain := "cluster.local."
			if flags != nil {
				domain = "k8s.test."
			}
			m.answersNow("reviews.prod.svc."+domain, dns.TypeA, "SERVFAIL")
			m.coredns.WaitFor(t, "cannot follow syncer")
		})
	}
}

// TestBootstrap goes the operator's way, from nothing to a name that is answered, and on to a token that is renewed.
func TestBootstrap(t *testing.T) {
	i := newInstallation(t)
	kubeconfig, err := i.plane.KubeconfigFor(controlplane.SyncerUser)
	if err != nil {
		t.Fatal(err)
	}
	start := func() *programs.Process {
		return programs.Start(t, programs.Syncer, "--kubeconfig", kubeconfig, "--listen", i.address, "--http-listen", i.http,
			"--tls-cert-file", i.authority.file("server"), "--tls-private-key-file", i.authority.file("server-key"), "--token-review")
	}
	syncer := start()
	bundle := filepath.Join(t.TempDir(), "vm")
	i.meshvmctl("bootstrap", "--create-service-account", "--grant", "--out", bundle, "--install-dir", bundle, "--upstream", programs.Upstream(t))
	m := i.boot(bundle)

	// What only the VM's own namespace may see proves whose the token is.
	host := "reviews." + i.namespace + ".svc.cluster.local."
	services := i.clients.CoreV1().Services(i.namespace)
	service, err := services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "reviews", Annotations: map[string]string{"networking.istio.io/exportTo": "."}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.answers(host, dns.TypeA, service.Spec.ClusterIP)
	m.answersNow("www.example.net.", dns.TypeA, programs.Outside)

	// The account becomes another, so that tokens of before are worth nothing. Only with the renewed one the VM follows again;
	// it stays as it is until then.
	syncer.Stop(t, syscall.SIGTERM)
	if err := i.plane.DeleteServiceAccount(t.Context(), i.namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	if _, err := i.clients.CoreV1().ServiceAccounts(i.namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "vm"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := services.Delete(t.Context(), "reviews", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	said := i.meshvmctl("token", "--out", filepath.Join(bundle, "token"))
	m.answersNow(host, dns.TypeA, service.Spec.ClusterIP)
	start()
	m.answers(host, dns.TypeA, "NXDOMAIN")

	token, err := os.ReadFile(filepath.Join(bundle, "token"))
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(strings.TrimSpace(string(token)), ".") {
		if strings.Contains(said, part) || strings.Contains(m.coredns.Output(), part) {
			t.Error("A part of the token was printed")
		}
	}
}
