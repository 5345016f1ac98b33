package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// entryManifest is a ServiceEntry of one host, NAME.example.com.
func entryManifest(name string) string {
	return strings.ReplaceAll(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, namespace: prod}
spec: {hosts: [NAME.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
`, "NAME", name)
}

// TestAllocateForManifests: hosts of manifests get virtual IPs that last, whatever becomes of the syncer and of
// the manifests.
func TestAllocateForManifests(t *testing.T) {
	folder, state := t.TempDir(), filepath.Join(t.TempDir(), "vips.json")
	address, http := programs.FreeAddress(t), programs.FreeAddress(t)
	// Three addresses, so that there is one for nobody else when the third host is gone.
	arguments := []string{"--manifests", folder, "--insecure", "--listen", address, "--http-listen", http,
		"--vip", "allocate", "--vip-state-file", state, "--vip-ranges", "240.240.0.0/30"}
	for _, name := range []string{"a", "b", "c"} {
		write(t, folder, name+".yaml", entryManifest(name))
	}
	syncer := programs.Start(t, programs.Syncer, arguments...)
	m := newMachine(t, []string{address})
	m.isReady()
	given := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		got, err := m.ask(name+".example.com.", dns.TypeA)
		if err != nil || !strings.HasPrefix(got, "240.240.0.") || given[got] != "" {
			t.Fatalf("Address of %s: got %q, %v, want one of its own", name, got, err)
		}
		given[got], given[name] = name, got
	}
	restart := func(signal syscall.Signal) {
		syncer.Stop(t, signal)
		syncer = programs.Start(t, programs.Syncer, arguments...)
		eventually(t, "the syncer is ready", func() error { return status("http://"+http+"/readyz", 200) })
	}
	steady := func(when string, names ...string) {
		t.Helper()
		eventually(t, "every address as before: "+when, func() error {
			for _, name := range names {
				got, err := m.ask(name+".example.com.", dns.TypeA)
				if err == nil && got != given[name] {
					err = fmt.Errorf("%s: got %q, want %q", name, got, given[name])
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}

	restart(syscall.SIGTERM)
	steady("after a restart", "a", "b", "c")
	showsVIP(t, http, "a.example.com", vip.Assigned, given["a"])

	remove(t, folder, "c.yaml")
	m.answers("c.example.com.", dns.TypeA, programs.Outside)
	write(t, folder, "d.yaml", entryManifest("d"))
	syncer.WaitFor(t, "AddressesExhausted: host d.example.com: no IPv4 address is free in 240.240.0.0/30")
	m.answersNow("d.example.com.", dns.TypeA, programs.Outside)
	restart(syscall.SIGKILL)
	syncer.WaitFor(t, "AddressesExhausted: host d.example.com")
	showsVIP(t, http, "c.example.com", vip.Quarantined, given["c"])
	showsVIP(t, http, "d.example.com", vip.Lacking, "")
	syncerMetric(t, http, "meshvm_syncer_vip_exhausted_hosts 1")
	syncerMetric(t, http, `meshvm_syncer_vip_quarantined_addresses{range="240.240.0.0/30"} 1`)
	write(t, folder, "c.yaml", entryManifest("c"))
	steady("when it is back inside the quarantine", "a", "b", "c")
	m.answersNow("d.example.com.", dns.TypeA, programs.Outside)

	// A second syncer on one ledger would give an address twice.
	second := programs.Start(t, programs.Syncer, append(arguments, "--listen", programs.FreeAddress(t), "--http-listen", programs.FreeAddress(t))...)
	second.WaitFor(t, "another syncer uses it")
	if code := second.Wait(t); code != 1 {
		t.Errorf("Exit code of a second syncer: got %d, want 1", code)
	}

	// A damaged ledger stops who starts, and costs VMs nothing.
	syncer.Stop(t, syscall.SIGTERM)
	whole, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(state), filepath.Base(state), strings.Replace(string(whole), "b.example.com", "d.example.com", 1))
	syncer = programs.Start(t, programs.Syncer, arguments...)
	syncer.WaitFor(t, "it is damaged: its checksum is")
	if code := syncer.Wait(t); code != 1 || !strings.Contains(syncer.Output(), state) {
		t.Errorf("A damaged ledger: got exit code %d and %q, want 1 and its name", code, syncer.Output())
	}
	steady("from the VM's own copy", "a", "b", "c")
	write(t, filepath.Dir(state), filepath.Base(state), string(whole))
	syncer = programs.Start(t, programs.Syncer, arguments...)
	eventually(t, "the syncer is ready", func() error { return status("http://"+http+"/readyz", 200) })
	steady("with the ledger from a backup", "a", "b", "c")

	// Without a ledger every host gets an address again.
	remove(t, folder, "d.yaml")
	syncer.Stop(t, syscall.SIGTERM)
	remove(t, filepath.Dir(state), filepath.Base(state))
	syncer = programs.Start(t, programs.Syncer, arguments...)
	eventually(t, "the syncer is ready", func() error { return status("http://"+http+"/readyz", 200) })
	m.answers("d.example.com.", dns.TypeA, programs.Outside)
	for _, name := range []string{"a", "b", "c"} {
		got, err := m.ask(name+".example.com.", dns.TypeA)
		if err != nil || !strings.HasPrefix(got, "240.240.0.") {
			t.Errorf("Address of %s without a ledger: got %q, %v, want one", name, got, err)
		}
	}
}

// showsVIP waits until a syncer shows the state and the addresses of a host, in one row.
func showsVIP(t *testing.T, http, host string, state vip.State, address string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is shown as %s", host, state), func() error {
		body, _, err := get("http://" + http + "/debug/vips?host=" + host)
		if err != nil {
			return err
		}
		var table vip.Table
		if err := json.Unmarshal([]byte(body), &table); err != nil {
			return fmt.Errorf("%w in %s", err, body)
		}
		var addresses []string
		for _, row := range table.Hosts {
			for _, one := range row.Addresses {
				addresses = append(addresses, one.String())
			}
		}
		if len(table.Hosts) != 1 || table.Hosts[0].State != state || strings.Join(addresses, " ") != address {
			return fmt.Errorf("got %s, want %s with %q", body, state, address)
		}
		return nil
	})
}

func remove(t *testing.T, folder, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

// TestAllocateInACluster: on a real API server, a host gets a virtual IP that VMs answer, and every replica
// shows it.
func TestAllocateInACluster(t *testing.T) {
	c := newCluster(t, controlplane.WithIstioCRDs())
	if err := c.plane.GrantSyncerVIPRole(t.Context(), c.namespace); err != nil {
		t.Fatal(err)
	}
	c.restartWith("--vip", "allocate", "--vip-namespace", c.namespace, "--vip-pending", "nodata")
	second := programs.FreeAddress(t)
	programs.Start(t, programs.Syncer, append(c.arguments, "--vip", "allocate", "--vip-namespace", c.namespace,
		"--listen", programs.FreeAddress(t), "--http-listen", second)...)
	m := newMachine(t, []string{c.address})
	m.isReady()
	c.createServiceEntry("payments", "payments.example.com")
	var given string
	eventually(t, "a virtual IP", func() (err error) {
		given, err = m.ask("payments.example.com.", dns.TypeA)
		if err == nil && !strings.HasPrefix(given, "240.240.") {
			err = fmt.Errorf("got %q", given)
		}
		return err
	})
	v6, err := m.ask("payments.example.com.", dns.TypeAAAA)
	if err != nil || !strings.HasPrefix(v6, "2001:2:") {
		t.Errorf("AAAA: got %q, %v, want one of 2001:2::/48", v6, err)
	}
	for _, replica := range []string{c.http, second} {
		showsVIP(t, replica, "payments.example.com", vip.Assigned, given+" "+v6)
	}
	if err := c.istio.NetworkingV1().ServiceEntries(c.namespace).Delete(t.Context(), "payments", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.answers("payments.example.com.", dns.TypeA, programs.Outside)
	for _, replica := range []string{c.http, second} {
		showsVIP(t, replica, "payments.example.com", vip.Quarantined, given+" "+v6)
	}
	c.createServiceEntry("again", "payments.example.com")
	t.Logf("the old address after %v", m.answers("payments.example.com.", dns.TypeA, given))
}
