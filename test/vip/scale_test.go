// Package vip shows at scale, with the real programs, that virtual IPs are given soon, once and for good.
package vip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

func TestMain(m *testing.M) { os.Exit(programs.Main(m, programs.Syncer)) }

const (
	// count is how many ServiceEntries there are.
	count = 10_000
	// patience bounds every wait. All have their addresses in 75 to 100 s on two cores; slower machines test too.
	patience = 5 * time.Minute
)

var serviceEntries = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}

// TestTenThousandServiceEntries has ten thousand ServiceEntries without addresses get virtual IPs. The leader
// is killed half-way; another replica takes over. Then all are started from nothing. No address may ever
// change, and no two hosts may ever have the same.
func TestTenThousandServiceEntries(t *testing.T) {
	plane := controlplane.Start(t, controlplane.WithIstioCRDs())
	admin, err := clientset.NewForConfig(plane.RESTConfig())
	check(t, err)
	entries, err := dynamic.NewForConfig(plane.RESTConfig())
	check(t, err)
	_, err = admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "meshvm"}}, metav1.CreateOptions{})
	check(t, err)
	check(t, plane.GrantSyncerRole(t.Context()))
	check(t, plane.GrantSyncerVIPRole(t.Context(), "meshvm"))
	kubeconfig, err := plane.KubeconfigFor(controlplane.SyncerUser)
	check(t, err)

	began := time.Now()
	seed(t, entries.Resource(serviceEntries).Namespace("default"))
	t.Logf("made %d ServiceEntries in %.1f s", count, time.Since(began).Seconds())
	seen := observe(t, entries)

	began = time.Now()
	first := start(t, kubeconfig)
	first.awaitLeading(t)
	second := start(t, kubeconfig)
	await(t, "half of the addresses", func() bool { return seen.complete() >= count/2 })
	atDeath := seen.complete()
	t.Logf("%d ServiceEntries had addresses after %.1f s, when the leader was killed", atDeath, time.Since(began).Seconds())
	first.Stop(t, syscall.SIGKILL)
	await(t, "all addresses", func() bool { return seen.complete() == count })
	t.Logf("all %d ServiceEntries had addresses after %.1f s", count, time.Since(began).Seconds())
	if atDeath == count {
		t.Error("the leader was killed when all was done, want half-way")
	}
	second.awaitLeading(t)
	second.Stop(t, syscall.SIGTERM)

	versions := seen.versions()
	third := start(t, kubeconfig)
	third.awaitLeading(t)
	await(t, "a leader that has started from nothing to know all", func() bool {
		return third.metric(t, `used_addresses{range="240.240.0.0/16"}`) == fmt.Sprint(count)
	})
	// What it has to say of the others, it says before it gives one more an address.
	one := entry(count)
	_, err = entries.Resource(serviceEntries).Namespace("default").Create(t.Context(), one, metav1.CreateOptions{})
	check(t, err)
	await(t, "one more", func() bool { return seen.complete() == count+1 })
	for name, version := range seen.versions() {
		if before, there := versions[name]; there && before != version {
			t.Errorf("%s was written by a leader that has started from nothing", name)
		}
	}
	for _, problem := range seen.problems() {
		t.Error(problem)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for ; !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func entry(number int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1",
		"kind":       "ServiceEntry",
		"metadata":   map[string]any{"name": fmt.Sprintf("entry-%d", number), "namespace": "default"},
		"spec": map[string]any{
			"hosts":      []any{fmt.Sprintf("host-%d.example.com", number)},
			"resolution": "DNS",
			"ports":      []any{map[string]any{"name": "tls", "number": int64(443), "protocol": "TLS"}},
		},
	}}
}

// seed makes the ServiceEntries.
func seed(t *testing.T, entries dynamic.ResourceInterface) {
	t.Helper()
	numbers := make(chan int)
	failures := make([]error, 16)
	var group sync.WaitGroup
	for i := range failures {
		group.Go(func() {
			for number := range numbers {
				_, err := entries.Create(t.Context(), entry(number), metav1.CreateOptions{})
				failures[i] = errors.Join(failures[i], err)
			}
		})
	}
	for number := range count {
		numbers <- number
	}
	close(numbers)
	group.Wait()
	check(t, errors.Join(failures...))
}

// observer sees every status that there ever is.
type observer struct {
	mu sync.Mutex
	// of is who had an address first, and last what a host and family has.
	of, last map[string]string
	done     map[string]bool
	version  map[string]string
	wrong    []string
}

func observe(t *testing.T, entries dynamic.Interface) *observer {
	t.Helper()
	o := &observer{of: map[string]string{}, last: map[string]string{}, done: map[string]bool{}, version: map[string]string{}}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(entries, 0)
	informer := factory.ForResource(serviceEntries).Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    o.see,
		UpdateFunc: func(_, object any) { o.see(object) },
		DeleteFunc: func(any) { o.report("a ServiceEntry is gone") },
	})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { informer.RunWithContext(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	await(t, "all ServiceEntries to be listed", informer.HasSynced)
	return o
}

func (o *observer) report(format string, arguments ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrong = append(o.wrong, fmt.Sprintf(format, arguments...))
}

func (o *observer) see(object any) {
	entry, ok := object.(*unstructured.Unstructured)
	if !ok {
		o.report("got a %T, want a ServiceEntry", object)
		return
	}
	list, _, err := unstructured.NestedSlice(entry.Object, "status", "addresses")
	if err != nil {
		o.report("%s: %v", entry.GetName(), err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version[entry.GetName()] = entry.GetResourceVersion()
	families := map[string]bool{}
	for _, element := range list {
		fields, _ := element.(map[string]any)
		host, address := fmt.Sprint(fields["host"]), fmt.Sprint(fields["value"])
		family := map[bool]string{true: "IPv6", false: "IPv4"}[strings.Contains(address, ":")]
		families[family] = true
		key := host + " " + family
		if before := o.last[key]; before != "" && before != address {
			o.wrong = append(o.wrong, fmt.Sprintf("%s: got %s, want %s as before", key, address, before))
		}
		if other := o.of[address]; other != "" && other != key {
			o.wrong = append(o.wrong, fmt.Sprintf("%s: got %s, which is the address of %s", key, address, other))
		}
		o.last[key], o.of[address] = address, key
	}
	if o.done[entry.GetName()] && len(families) < 2 {
		o.wrong = append(o.wrong, fmt.Sprintf("%s has lost an address", entry.GetName()))
	}
	if len(families) == 2 {
		o.done[entry.GetName()] = true
	}
}

// complete is how many ServiceEntries have an address of each family.
func (o *observer) complete() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.done)
}

func (o *observer) versions() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.version)
}

func (o *observer) problems() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wrong
}

// replica is a syncer that runs.
type replica struct {
	*programs.Process
	http string
}

func start(t *testing.T, kubeconfig string) *replica {
	t.Helper()
	r := &replica{http: programs.FreeAddress(t)}
	r.Process = programs.Start(t, programs.Syncer, "--kubeconfig", kubeconfig, "--insecure",
		"--listen", programs.FreeAddress(t), "--http-listen", r.http, "--vip", "allocate", "--vip-namespace", "meshvm")
	return r
}

func (r *replica) awaitLeading(t *testing.T) {
	t.Helper()
	await(t, "the replica to lead", func() bool { return r.metric(t, "leader") == "1" })
}

// metric is what the replica says, empty where it says nothing.
func (r *replica) metric(t *testing.T, name string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.http+"/metrics", nil)
	check(t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "" // It does not listen yet.
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	for line := range strings.Lines(string(body)) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "meshvm_syncer_vip_"+name+" "); found {
			return value
		}
	}
	return ""
}
