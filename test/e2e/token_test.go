package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// TestTokenAndRBAC is what the README tells to do: a syncer that asks VMs for no certificates, a VM that is granted its namespace's view
// and loses it when its right is taken away, and one that is told what to grant.
func TestTokenAndRBAC(t *testing.T) {
	plane := controlplane.Start(t)
	namespace := plane.Namespace(t)
	if err := plane.GrantSyncerIdentityRole(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := plane.CreateWatcherRole(t.Context()); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := plane.KubeconfigFor(controlplane.SyncerUser)
	if err != nil {
		t.Fatal(err)
	}
	// Before anything else: the API server's authorizer learns of it through a watch of its own.
	if err := plane.AllowWatch(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{}
	dir := t.TempDir()
	for _, account := range []string{"vm", "stranger"} {
		if tokens[account], err = plane.ServiceAccountToken(t.Context(), namespace, account, "meshvm"); err != nil {
			t.Fatal(err)
		}
		write(t, dir, account, tokens[account]+"\n")
	}
	mesh := newAuthority(t)
	mesh.server("server")
	folder := t.TempDir()
	manifest := strings.ReplaceAll(reviewsAt("10.96.0.1"), "namespace: prod}", "namespace: "+namespace+", annotations: {networking.istio.io/exportTo: \".\"}}")
	write(t, folder, "reviews.yaml", manifest)
	address := programs.FreeAddress(t)
	syncer := programs.Start(t, programs.Syncer, "--manifests", folder, "--kubeconfig", kubeconfig, "--token-review", "--identity-recheck", "1s",
		"--listen", address, "--http-listen", programs.FreeAddress(t),
		"--tls-cert-file", mesh.file("server"), "--tls-private-key-file", mesh.file("server-key"))
	host := fmt.Sprintf("reviews.%s.svc.cluster.local.", namespace)

	as := func(account string) *machine {
		return newMachine(t, []string{address}, "tls "+mesh.file("root-cert"), "token "+filepath.Join(dir, account))
	}

	stranger := as("stranger")
	stranger.coredns.WaitFor(t, fmt.Sprintf("kubectl create rolebinding meshvm-watcher-stranger --clusterrole=meshvm-watcher --serviceaccount=%[1]s:stranger -n %[1]s", namespace))
	stranger.answersNow(host, dns.TypeA, "SERVFAIL")
	vm := as("vm")
	vm.answers(host, dns.TypeA, "10.96.0.1")

	if err := plane.ForbidWatch(t.Context(), namespace, "vm"); err != nil {
		t.Fatal(err)
	}
	syncer.WaitFor(t, "watch ended: the VM may not watch any more")
	vm.answersNow(host, dns.TypeA, "10.96.0.1")
	for what, text := range map[string]string{"the VM's": stranger.coredns.Output() + vm.coredns.Output(), "the syncer's": syncer.Output()} {
		for account, token := range tokens {
			if strings.Contains(text, token) {
				t.Errorf("%s log holds the token of %s", what, account)
			}
		}
	}
}
