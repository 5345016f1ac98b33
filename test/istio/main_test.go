// Package istio holds meshvm against Istio's own code, which bin/test/istio runs unchanged: what names resolve
// to, and which virtual IPs are given to whom.
package istio

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
	"github.com/meshvm/meshvm/test/transcript"
)

// patience bounds every wait. It is long because machines that run tests are slow.
const patience = 120 * time.Second

// oracle is the program that runs Istio's code.
var oracle string

func TestMain(m *testing.M) {
	if err := buildOracle(); err != nil {
		fmt.Fprintln(os.Stderr, "build Istio's code:", err)
		os.Exit(1)
	}
	os.Exit(programs.Main(m, programs.CoreDNS, programs.Syncer))
}

// buildOracle brings bin/test/istio up to date. Where `make test-servers` has run it costs a second.
func buildOracle() error {
	root, err := controlplane.RepositoryRoot()
	if err != nil {
		return err
	}
	build := exec.CommandContext(context.Background(), "sh", filepath.Join(root, "test", "servers", "istio", "build.sh"), filepath.Join(root, "bin", "test"))
	build.Stderr = os.Stderr
	oracle = filepath.Join(root, "bin", "test", "istio")
	return build.Run()
}

// nameTables are what istiod sends to the agents of proxies in each namespace: namespace, name, addresses.
func nameTables(t *testing.T, objects []unstructured.Unstructured, namespaces ...string) map[string]map[string][]string {
	t.Helper()
	var documents []string
	for _, object := range objects {
		object.SetManagedFields(nil)
		document, err := json.Marshal(object.Object)
		check(t, err)
		documents = append(documents, string(document))
	}
	command := exec.CommandContext(t.Context(), oracle, append([]string{"names"}, namespaces...)...)
	// Without it istiod gives proxies of two families the addresses of one.
	command.Env = append(os.Environ(), "ISTIO_DUAL_STACK=true")
	command.Stdin = strings.NewReader(strings.Join(documents, "\n---\n"))
	var output, log bytes.Buffer
	command.Stdout, command.Stderr = &output, &log
	if err := command.Run(); err != nil {
		t.Fatalf("%s names: %v\n%.2000s", oracle, err, &log)
	}
	var tables map[string]map[string][]string
	check(t, json.Unmarshal(output.Bytes(), &tables))
	return tables
}

// allocator is Istio's allocator of virtual IPs, running. It is started again, as a Pod is, whenever it ends by
// a fault of its own that is known: where two ServiceEntries have one address and both are gone when it looks,
// it takes one from none.
type allocator struct {
	output transcript.Transcript
	stopIt context.CancelFunc
	ended  chan struct{}
	// fault is why it ended before it was told to. Read it when ended is closed.
	fault error
}

const (
	knownFault  = "slice bounds out of range [1:0]"
	mostRestart = 100
)

func startAllocator(t *testing.T, kubeconfig string) *allocator {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	a := &allocator{stopIt: stop, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		a.fault = a.run(ctx, kubeconfig)
	}()
	t.Cleanup(func() {
		stop()
		<-a.ended
		if t.Failed() {
			t.Logf("Istio's allocator said:\n%s", a.output.String())
		}
	})
	return a
}

func (a *allocator) run(ctx context.Context, kubeconfig string) error {
	for restarts := 0; ; restarts++ {
		var problems bytes.Buffer
		command := exec.CommandContext(ctx, oracle, "allocate", kubeconfig)
		command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
		command.WaitDelay = patience
		command.Stdout, command.Stderr = &a.output, io.MultiWriter(&a.output, &problems)
		_ = command.Run() // How it ended is in ProcessState.
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if restarts == mostRestart || !strings.Contains(problems.String(), knownFault) {
			return fmt.Errorf("it ended by itself with %s", command.ProcessState)
		}
	}
}

// stop ends the allocator. It must have run until now.
func (a *allocator) stop(t *testing.T) {
	t.Helper()
	a.stopIt()
	<-a.ended
	if a.fault != nil {
		t.Fatalf("Istio's allocator: %v", a.fault)
	}
}

// kinds are those that names depend on.
var kinds = map[string]schema.GroupVersionResource{
	"Namespace":     {Version: "v1", Resource: "namespaces"},
	"Service":       {Version: "v1", Resource: "services"},
	"Pod":           {Version: "v1", Resource: "pods"},
	"EndpointSlice": {Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
	"ServiceEntry":  {Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"},
	"WorkloadEntry": {Group: "networking.istio.io", Version: "v1", Resource: "workloadentries"},
}

// cluster is a real control plane and its objects.
type cluster struct {
	t       *testing.T
	plane   *controlplane.ControlPlane
	objects dynamic.Interface
}

func newCluster(t *testing.T, namespaces ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, plane: controlplane.Start(t, controlplane.WithIstioCRDs())}
	// As fast as the server lets them.
	config := c.plane.RESTConfig()
	config.QPS, config.Burst = 1000, 1000
	var err error
	c.objects, err = dynamic.NewForConfig(config)
	check(t, err)
	admin, err := kubernetes.NewForConfig(config)
	check(t, err)
	for _, name := range append(namespaces, "meshvm") {
		_, err := admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		check(t, err)
	}
	check(t, c.plane.GrantSyncerRole(t.Context()))
	check(t, c.plane.GrantSyncerVIPRole(t.Context(), "meshvm"))
	return c
}

// syncer starts a syncer with no more rights than we ship, and returns where it serves VMs and where HTTP.
func (c *cluster) syncer(flags ...string) (process *programs.Process, address, http string) {
	c.t.Helper()
	kubeconfig, err := c.plane.KubeconfigFor(controlplane.SyncerUser)
	check(c.t, err)
	address, http = programs.FreeAddress(c.t), programs.FreeAddress(c.t)
	process = programs.Start(c.t, programs.Syncer, append([]string{"--kubeconfig", kubeconfig, "--insecure", "--listen", address, "--http-listen", http}, flags...)...)
	return process, address, http
}

// parse reads objects as YAML.
func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(text, "\n---\n") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(object) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: object})
		}
	}
	return objects
}

// create makes an object, and gives it the status it comes with.
func (c *cluster) create(object *unstructured.Unstructured) error {
	resource, known := kinds[object.GetKind()]
	if !known {
		return fmt.Errorf("a %q is none of the kinds that names depend on", object.GetKind())
	}
	client := c.objects.Resource(resource).Namespace(object.GetNamespace())
	status := object.Object["status"]
	made, err := client.Create(c.t.Context(), object, metav1.CreateOptions{})
	if err != nil || status == nil {
		return err
	}
	made.Object["status"] = status
	_, err = client.UpdateStatus(c.t.Context(), made, metav1.UpdateOptions{})
	return err
}

// all are the objects that there are.
func (c *cluster) all(names ...string) []unstructured.Unstructured {
	c.t.Helper()
	var objects []unstructured.Unstructured
	for name, resource := range kinds {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		list, err := c.objects.Resource(resource).List(c.t.Context(), metav1.ListOptions{})
		check(c.t, err)
		objects = append(objects, list.Items...)
	}
	return objects
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await returns once the check has no complaint.
func await(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for ; ; <-ticker.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v: %v", what, patience, err)
		}
	}
}
