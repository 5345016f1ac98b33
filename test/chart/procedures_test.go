//go:build chart

package chart

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// controllers play those of a cluster: a Deployment gets a pod, a changed one a new pod and then none of the old, its status says so, what
// a pod has mounted follows its Secret, and a load balancer gets an address.
type controllers struct {
	c       *cluster
	running *pod
	of      string // the Deployment, and its generation
	balance *balancer
}

func (p *controllers) run(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !t.Failed() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := p.step(ctx, t); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			t.Errorf("controllers: %v", err)
		}
	}
}

func (p *controllers) step(ctx context.Context, t *testing.T) error {
	service, err := p.c.clients.CoreV1().Services(namespace).Get(ctx, release, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if service.Spec.Type == corev1.ServiceTypeLoadBalancer && len(service.Status.LoadBalancer.Ingress) == 0 {
		if err := p.balance.publish(ctx, p.c); err != nil {
			return err
		}
	}
	deployment, err := p.c.clients.AppsV1().Deployments(namespace).Get(ctx, release, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if now := fmt.Sprintf("%s %d", deployment.UID, deployment.Generation); now != p.of {
		p.of = now
		return p.roll(ctx, t, deployment)
	}
	p.running.mount(t)
	return nil
}

// roll replaces the pod, the new one first.
func (p *controllers) roll(ctx context.Context, t *testing.T, deployment *appsv1.Deployment) error {
	fresh := p.c.schedule(t)
	fresh.start(t)
	fresh.ready(t)
	p.balance.set(fresh)
	if p.running != nil {
		p.running.stop(t)
	}
	p.running = fresh
	n := *deployment.Spec.Replicas
	patch := fmt.Sprintf(`{"status":{"observedGeneration":%d,"replicas":%d,"updatedReplicas":%d,"readyReplicas":%d,"availableReplicas":%d}}`, deployment.Generation, n, n, n, n)
	_, err := p.c.clients.AppsV1().Deployments(namespace).Patch(ctx, release, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	return err
}

// chapter is one of a page, with the commands that it has.
type chapter struct {
	name     string
	commands []string
}

// chapters are those of a page that have commands to be run: blocks of sh.
func chapters(t *testing.T, page string) []chapter {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var all []chapter
	for part := range strings.SplitSeq(string(content), "\n## ") {
		name, text, _ := strings.Cut(part, "\n")
		var commands []string
		for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(text, -1) {
			commands = append(commands, block[1])
		}
		if len(commands) > 0 {
			all = append(all, chapter{name, commands})
		}
	}
	return all
}

// shell is a person at a terminal, in the repository, with helm, kubectl and meshvmctl.
type shell struct {
	dir, path, home, kubeconfig string
}

func newShell(t *testing.T, c *cluster, version string) *shell {
	t.Helper()
	s := &shell{dir: t.TempDir(), home: t.TempDir(), kubeconfig: c.plane.Kubeconfig()}
	bin := t.TempDir()
	for name, target := range map[string]string{
		"helm": filepath.Join(root, "bin", "test", version), "kubectl": filepath.Join(root, "bin", "test", "kubectl"), "meshvmctl": programs.Binary(t, programs.Operator),
	} {
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "deploy"), filepath.Join(s.dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	s.path = bin + ":" + os.Getenv("PATH")
	return s
}

func (s *shell) run(t *testing.T, commands string) string {
	t.Helper()
	if strings.Contains(commands, "can-i --list --namespace prod") {
		// The page says: a second later.
		commands = "for i in $(seq 50); do if " + strings.TrimSpace(commands) + "; then exit 0; fi; done; exit 1"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	command.Dir = s.dir
	command.Env = []string{"PATH=" + s.path, "HOME=" + s.home, "KUBECONFIG=" + s.kubeconfig}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, commands, output)
	}
	return string(output)
}

// TestProcedures does what deploy/README.md says, chapter by chapter, and looks whether it is so.
func TestProcedures(t *testing.T) {
	for _, version := range helms {
		t.Run(version, func(t *testing.T) {
			c := connect(t, controlplane.Start(t, controlplane.WithIstioCRDs()))
			person := newShell(t, c, version)
			ctx, cancel := context.WithCancel(t.Context())
			var cluster sync.WaitGroup
			others := &controllers{c: c, balance: listen(t, 15054)}
			cluster.Go(func() { others.run(ctx, t) })
			defer cluster.Wait()
			defer cancel()

			var m *vm
			follows := func(t *testing.T) {
				t.Helper()
				host, address := c.newService(t)
				m.answers(host, dns.TypeA, address)
			}
			after := map[string]func(t *testing.T, said string){
				"Connect a VM": func(t *testing.T, _ string) {
					m = boot(t, filepath.Join(person.dir, "vm-1"))
					follows(t)
				},
				"Secure":  func(t *testing.T, _ string) { m.trust(c); follows(t) },
				"Upgrade": func(t *testing.T, _ string) { follows(t) },
				"Names for pods without sidecars": func(t *testing.T, _ string) {
					notes := person.run(t, "helm get notes meshvm-syncer --namespace meshvm")
					if !strings.Contains(notes, "example.com:53 {") {
						t.Errorf("The notes do not say what to write into the Corefile:\n%s", notes)
					}
				},
				"Without Helm": func(t *testing.T, _ string) { m.trust(c); follows(t) },
			}
			want := []string{"Install", "Expose", "Connect a VM", "Secure", "Upgrade", "Monitor", "Names for pods without sidecars", "Uninstall", "Without Helm"}
			var done []string
			for _, chapter := range chapters(t, "deploy/README.md") {
				if chapter.name == "Without Helm" {
					person.certificates(t)
				}
				var said strings.Builder
				for _, commands := range chapter.commands {
					said.WriteString(person.run(t, commands))
				}
				if look := after[chapter.name]; look != nil {
					look(t, said.String())
				}
				done = append(done, chapter.name)
			}
			if !slices.Equal(done, want) {
				t.Errorf("got chapters %q, want %q", done, want)
			}
		})
	}
}

// certificates makes what a company's own authority gives out, with the names that the page asks for.
func (s *shell) certificates(t *testing.T) {
	t.Helper()
	s.run(t, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj /CN=company -days 10
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=meshvm-syncer
printf 'subjectAltName=DNS:meshvm-syncer.meshvm.svc' >names
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out tls.crt -days 5 -extfile names`)
}
