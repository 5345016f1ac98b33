//go:build chart

package chart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

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
	if said[1] != "" {
		t.Errorf("The comparison found differences:\n%s", said[1])
	}
}

// TestMigrateFromIstio compares with what Istio's own code puts into the table of its DNS proxy, served where the agent serves it. The VM
// shows a certificate of the mesh, and no token.
func TestMigrateFromIstio(t *testing.T) {
	c := newCluster(t)
	c.clear()
	c.populate(t)
	c.forget(t)
	// What Istio's allocator has written.
	for name, given := range map[string][2]string{"due": {"due.example.com", "240.240.9.9"}, "selecting": {"workloads.example.com", "240.240.9.10"}} {
		patch := fmt.Sprintf(`{"status":{"addresses":[{"host":%q,"value":%q}]}}`, given[0], given[1])
		if _, err := c.istio.NetworkingV1().ServiceEntries(objectsNamespace).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.istio.NetworkingV1().ServiceEntries(objectsNamespace).Delete(t.Context(), "many", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.install("helm", "{service: {type: LoadBalancer}}")
	person := newShell(t, c, "helm")
	person.run(t, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root-key.pem -out root-cert.pem -subj /O=istio -days 10
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out vm.csr -subj /
printf 'subjectAltName=critical,URI:spiffe://chart.test/ns/prod/sa/vm' >names
openssl x509 -req -in vm.csr -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -out cert-chain.pem -days 5 -extfile names
kubectl create configmap istio-ca-root-cert --namespace meshvm --from-file=root-cert.pem --dry-run=client -o yaml | kubectl apply -f -
kubectl create serviceaccount vm --namespace prod --dry-run=client -o yaml | kubectl apply -f -`)
	balancer := listen(t, 15054)
	if err := balancer.publish(t.Context(), c); err != nil {
		t.Fatal(err)
	}

	var blocks []string
	for _, chapter := range chapters(t, "deploy/migrate.md") {
		if chapter.name == "From Istio's DNS proxy" {
			blocks = chapter.commands
		}
	}
	if len(blocks) != 2 {
		t.Fatalf("got %d blocks in the chapter on Istio, want 2", len(blocks))
	}
	person.run(t, blocks[0])
	syncer := c.schedule(t)
	syncer.start(t)
	syncer.ready(t)
	balancer.set(syncer)
	bundle := filepath.Join(person.dir, "vm-1")
	corefile, err := os.ReadFile(filepath.Join(bundle, "Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	// The syncer's own certificate is the chart's, and the mesh's is the VM's: the bundle says which authority is whose.
	certificates := strings.NewReplacer("/etc/certs/", person.dir+"/")
	if err := os.WriteFile(filepath.Join(bundle, "Corefile"), []byte(certificates.Replace(string(corefile))), 0o600); err != nil {
		t.Fatal(err)
	}
	m := boot(t, bundle)
	m.answers("due.example.com", dns.TypeA, "240.240.9.9")
	g := &migration{c: c, person: person, m: m, snapshot: m.snapshot}
	g.saved(t, "due.example.com")
	address := serveTable(t, istioTable(t, c))
	here := strings.NewReplacer("@127.0.0.1 -p 15053", address, "meshvmctl export", "meshvmctl export --snapshot "+m.snapshot)
	for line := range strings.SplitSeq(strings.TrimSpace(person.run(t, here.Replace(blocks[1]))), "\n") {
		expected := []string{"mongodb-0.mongodb.prod.", "workload-vm.workloads.example.com ", "meshvm-syncer.meshvm.svc.cluster.local is not fd"} // as the page says
		if line != "" && !slices.ContainsFunc(expected, func(begin string) bool { return strings.HasPrefix(line, begin) }) {
			t.Errorf("The comparison found a difference: %s", line)
		}
	}
}

// istioTable is what Istio's code makes of the objects for a VM in their namespace.
func istioTable(t *testing.T, c *cluster) map[string][]string {
	t.Helper()
	var text strings.Builder
	for document := range strings.SplitSeq(objects, "---\n") {
		if !strings.Contains(document, "kind: ServiceEntry") && !strings.Contains(document, "kind: Sidecar") && !strings.Contains(document, "kind: Service\n") {
			text.WriteString(document + "\n---\n")
		}
	}
	// As they are in the cluster, with what it has given them.
	for _, resource := range []string{"v1/services", "networking.istio.io/v1/serviceentries"} {
		list, err := c.dynamic.Resource(resourceOf(resource)).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range list.Items {
			encoded, err := yaml.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(encoded)
			text.WriteString("\n---\n")
		}
	}
	command := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "test", "istio"), "names", objectsNamespace)
	command.Stdin = strings.NewReader(text.String())
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var tables map[string]map[string][]string
	if err := json.Unmarshal(output, &tables); err != nil {
		t.Fatal(err)
	}
	return tables[objectsNamespace]
}

// serveTable answers from a table, and returns where, as dig takes it.
func serveTable(t *testing.T, table map[string][]string) string {
	t.Helper()
	packets, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		reply := new(dns.Msg).SetReply(r)
		question := r.Question[0]
		for _, text := range table[strings.TrimSuffix(question.Name, ".")] {
			header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 30}
			switch ip := net.ParseIP(text); {
			case question.Qtype == dns.TypeA && ip.To4() != nil:
				reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: ip})
			case question.Qtype == dns.TypeAAAA && ip.To4() == nil:
				reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: ip})
			}
		}
		if err := w.WriteMsg(reply); err != nil {
			t.Errorf("answer from Istio's table: %v", err)
		}
	})}
	ended := make(chan error, 1)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	_, port, err := net.SplitHostPort(packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "@127.0.0.1 -p " + port
}
