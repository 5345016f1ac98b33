//go:build chart

package chart

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// migration is a VM beside its old way to resolve names, and a person who follows deploy/migrate.md.
type migration struct {
	c      *cluster
	person *shell
	m      *vm
	// snapshot is the VM's, and old where the old server answers, if there is one.
	snapshot, old string
}

func newMigration(t *testing.T) *migration {
	t.Helper()
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.install("helm", "{service: {type: LoadBalancer}, vip: {mode: allocate}}")
	syncer := c.schedule(t)
	c.balance(t, syncer)
	syncer.start(t)
	syncer.ready(t)
	m := boot(t, c.bootstrap(t, objectsNamespace))
	m.answers("reviews.prod.svc.cluster.local", dns.TypeA, "10.96.77.1")
	return &migration{c: c, person: newShell(t, c, "helm"), m: m, snapshot: m.snapshot}
}

// chapter runs the commands of a chapter, where the VM's ports are those of this machine, and returns what each block said.
func (g *migration) chapter(t *testing.T, name string, before func(t *testing.T, block int)) []string {
	t.Helper()
	for _, chapter := range chapters(t, "deploy/migrate.md") {
		if chapter.name != name {
			continue
		}
		var said []string
		_, port, _ := net.SplitHostPort(g.m.address)
		for i, commands := range chapter.commands {
			before(t, i)
			here := strings.NewReplacer("@127.0.0.1", "@127.0.0.1 -p "+port, "@127.0.0.2", g.old, "meshvmctl export", "meshvmctl export --snapshot "+g.snapshot)
			said = append(said, g.person.run(t, here.Replace(commands)))
		}
		return said
	}
	t.Fatalf("deploy/migrate.md has no chapter %q", name)
	return nil
}

func (g *migration) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.person.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// saved waits until the VM's snapshot has a name.
func (g *migration) saved(t *testing.T, name string) {
	t.Helper()
	eventually(t, name+" is in the snapshot", func() error {
		// There is none for the first two seconds.
		exported := g.person.run(t, "meshvmctl export --snapshot "+g.snapshot+" || true")
		if !strings.Contains(exported, "\t"+name+"\n") {
			return errNotYet
		}
		return nil
	})
}

// TestMigrateFromHosts does what the chapter says. What was in the hosts file is answered, and exported again, as it was.
func TestMigrateFromHosts(t *testing.T) {
	g := newMigration(t)
	lines := []string{"192.0.2.10\tdb.example.net", "192.0.2.11\tdb.example.net", "2001:db8::10\tdb.example.net", "192.0.2.12\tcache.example.net", "10.96.77.1\treviews.prod.svc.cluster.local"}
	g.write(t, "hosts", "# the file of a VM\n"+strings.Join(lines, "\n")+"\n")
	said := g.chapter(t, "From /etc/hosts", func(t *testing.T, block int) {
		if block == 1 {
			g.m.answers("db.example.net", dns.TypeA, "192.0.2.10 192.0.2.11")
			g.m.answers("cache.example.net", dns.TypeA, "192.0.2.12")
			g.saved(t, "db.example.net")
			g.saved(t, "cache.example.net")
		}
	})
	if said[1] != "" {
		t.Errorf("The comparison found differences:\n%s", said[1])
	}
	exported, err := os.ReadFile(filepath.Join(g.person.dir, "mesh.hosts"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(lines, "192.0.2.77\tliteral.example.com", "10.0.77.2\tmongodb-0.mongodb.prod.svc.cluster.local") {
		if !strings.Contains(string(exported), line+"\n") {
			t.Errorf("mesh.hosts has no line %q:\n%s", line, exported)
		}
	}
	// Every line of it is what the VM answers.
	for line := range strings.SplitSeq(strings.TrimSpace(string(exported)), "\n") {
		address, name, found := strings.Cut(line, "\t")
		if !found {
			continue // a comment
		}
		qtype := dns.TypeA
		if strings.Contains(address, ":") {
			qtype = dns.TypeAAAA
		}
		if got, err := g.m.ask(name, qtype); err != nil || !strings.Contains(" "+got+" ", " "+address+" ") {
			t.Errorf("%s: the VM answers %q and %v, want %s among it", name, got, err, address)
		}
	}
	g.m.answers("cache.example.net", dns.TypeA, programs.Outside)
}

// TestMigrateFromDnsmasq has a real dnsmasq beside the VM.
func TestMigrateFromDnsmasq(t *testing.T) {
	g := newMigration(t)
	address := programs.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	g.old = "@127.0.0.1 -p " + port
	// What kube-dns would say of the Services is what an exposed one does; here the VM's own server stands for it.
	_, cluster, _ := net.SplitHostPort(g.m.address)
	config := fmt.Sprintf("no-resolv\nno-hosts\nserver=/cluster.local/127.0.0.1#%s\nserver=/example.com/127.0.0.1#%s\naddress=/apps.example.net/192.0.2.20\nhost-record=db.example.net,192.0.2.21,2001:db8::21\ncname=sql.example.net,db.example.net\n", cluster, cluster)
	g.write(t, "dnsmasq.conf", config)
	dnsmasq := exec.CommandContext(t.Context(), "dnsmasq", "--keep-in-foreground", "--conf-file="+filepath.Join(g.person.dir, "dnsmasq.conf"), "--port="+port, "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--user=root")
	var output bytes.Buffer
	dnsmasq.Stdout, dnsmasq.Stderr = &output, &output
	if err := dnsmasq.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dnsmasq.Process.Signal(syscall.SIGTERM) // It may have ended, which the test has noticed.
		_ = dnsmasq.Wait()
	})
	old := &vm{t: t, address: address}
	old.answers("db.example.net", dns.TypeA, "192.0.2.21")
	said := g.chapter(t, "From dnsmasq in front of an exposed kube-dns", func(t *testing.T, block int) {
		if block == 1 {
			g.m.answers("any.apps.example.net", dns.TypeA, "192.0.2.20")
			g.m.answers("db.example.net", dns.TypeAAAA, "2001:db8::21")
			g.m.answers("sql.example.net", dns.TypeA, "192.0.2.21")
			g.saved(t, "sql.example.net")
		}
	})
	// An alias is a name with addresses now: dig prints dnsmasq's target, too.
	for line := range strings.SplitSeq(strings.TrimSpace(said[1]), "\n") {
		if line != "" && !strings.HasPrefix(line, "sql.example.net: dnsmasq says 192.0.2.21 db.example.net.") && !strings.HasPrefix(line, "sql.example.net: dnsmasq says 2001:db8::21 db.example.net.") {
			t.Errorf("The comparison found a difference: %s", line)
		}
	}
}
