//go:build chart

package chart

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// vm is a virtual machine with CoreDNS on a bundle that meshvmctl bootstrap made.
type vm struct {
	t        *testing.T
	bundle   string
	address  string
	metrics  string
	snapshot string
	coredns  *programs.Process
}

// bootstrap runs meshvmctl as an operator does, with nothing said but who the VM is.
func (c *cluster) bootstrap(t *testing.T, vmNamespace string, flags ...string) string {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "vm")
	args := []string{
		"bootstrap", "--kubeconfig", c.plane.Kubeconfig(), "--namespace", vmNamespace, "--service-account", "vm", "--create-service-account", "--grant",
		"--out", bundle, "--install-dir", bundle, "--upstream", programs.Upstream(t),
	}
	process := programs.Start(t, programs.Operator, slices.Concat(args, flags)...)
	if code := process.Wait(t); code != 0 {
		t.Fatalf("meshvmctl bootstrap: got exit code %d, want 0:\n%s", code, process.Output())
	}
	return bundle
}

// boot starts CoreDNS on a bundle as it is, but for the ports and the folders that belong to this machine.
func boot(t *testing.T, bundle string) *vm {
	t.Helper()
	m := &vm{t: t, bundle: bundle, address: programs.FreeAddress(t), metrics: programs.FreeAddress(t), snapshot: filepath.Join(t.TempDir(), "registry.snapshot")}
	_, port, err := net.SplitHostPort(m.address)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(bundle, "Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(content), "/etc/meshvm/", bundle+"/")
	text = strings.Replace(text, "forward . /run/meshvm-redirect/resolv.conf", "forward . "+programs.Upstream(t), 1)
	for _, own := range [][2]string{
		{"\n. {", "\n.:" + port + " {"}, {"health 127.0.0.1:15056", "health " + programs.FreeAddress(t)},
		{"ready 127.0.0.1:15057", "ready " + programs.FreeAddress(t)}, {"prometheus 127.0.0.1:9153", "prometheus " + m.metrics},
		{"reload 10s", "reload 2s 1s"}, {"/var/lib/meshvm/registry.snapshot", m.snapshot + "\n        status off"},
	} {
		if strings.Count(text, own[0]) != 1 {
			t.Fatalf("Got %d of %q in\n%s\nwant 1", strings.Count(text, own[0]), own[0], text)
		}
		text = strings.Replace(text, own[0], own[1], 1)
	}
	m.coredns = programs.Start(t, programs.CoreDNS, "-conf", programs.Corefile(t, text))
	m.coredns.WaitForStart(t)
	return m
}

// ask is what CoreDNS answers now, as programs.Said has it.
func (m *vm) ask(name string, qtype uint16) (string, error) {
	client := &dns.Client{Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), m.address)
	if err != nil {
		return "", err
	}
	return programs.Said(reply), nil
}

// answers waits until a name is answered so.
func (m *vm) answers(name string, qtype uint16, want string) {
	m.t.Helper()
	eventually(m.t, name, func() error {
		got, err := m.ask(name, qtype)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// errNotYet is for conditions that say no more.
var errNotYet = errors.New("not yet")
