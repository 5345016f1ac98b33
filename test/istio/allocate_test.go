package istio

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/test/programs"
)

// startOurs starts a syncer that allocates, and returns once it leads.
func (c *cluster) startOurs() *programs.Process {
	c.t.Helper()
	process, _, address := c.syncer("--vip", "allocate", "--vip-namespace", "meshvm")
	await(c.t, "our allocator leads", func() error { return exposes(c.t, address, "meshvm_syncer_vip_leader 1") })
	return process
}

// exposes complains unless a line is among the metrics.
func exposes(t *testing.T, address, line string) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	check(t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err // It does not listen yet.
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && !slices.Contains(strings.Split(string(body), "\n"), line) {
		err = fmt.Errorf("%s is not among the metrics", line)
	}
	return err
}

// allocation is what the status of a ServiceEntry says.
type allocation struct {
	version string
	due     []string            // hosts that are due virtual IPs by its spec
	hosts   map[string][]string // addresses of each host
}

// allocations are those of all ServiceEntries, by namespace and name.
func (c *cluster) allocations() map[string]allocation {
	c.t.Helper()
	all := map[string]allocation{}
	for _, object := range c.all("ServiceEntry") {
		a := allocation{version: object.GetResourceVersion(), hosts: map[string][]string{}}
		list, _, err := unstructured.NestedSlice(object.Object, "status", "addresses")
		check(c.t, err)
		for _, element := range list {
			fields, _ := element.(map[string]any)
			host, address := fmt.Sprint(fields["host"]), fmt.Sprint(fields["value"])
			a.hosts[host] = append(a.hosts[host], address)
		}
		if !strings.EqualFold(object.GetLabels()["networking.istio.io/enable-autoallocate-ip"], "false") {
			a.due, _, err = unstructured.NestedStringSlice(object.Object, "spec", "hosts")
			check(c.t, err)
		}
		all[object.GetNamespace()+"/"+object.GetName()] = a
	}
	return all
}

// addressed complains unless every host has one address of each family.
func addressed(all map[string]allocation) error {
	var missing []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, host := range all[name].due {
			families := map[bool]int{}
			for _, address := range all[name].hosts[host] {
				families[strings.Contains(address, ":")]++
			}
			if families[false] != 1 || families[true] != 1 {
				missing = append(missing, fmt.Errorf("%s: %s has %v, want one address of each family", name, host, all[name].hosts[host]))
			}
		}
		for host, addresses := range all[name].hosts {
			if !slices.Contains(all[name].due, host) {
				missing = append(missing, fmt.Errorf("%s: %s has %v, want none", name, host, addresses))
			}
		}
	}
	if len(missing) > 5 {
		missing = append(missing[:5], fmt.Errorf("and %d more", len(missing)-5))
	}
	return errors.Join(missing...)
}

// unique complains about addresses that two hosts have.
func unique(all map[string]allocation) error {
	of := map[string]string{}
	var twice []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for host, addresses := range all[name].hosts {
			for _, address := range addresses {
				if other, taken := of[address]; taken && other != host {
					twice = append(twice, fmt.Errorf("%s is that of %s and of %s", address, host, other))
				}
				of[address] = host
			}
		}
	}
	return errors.Join(twice...)
}

// settle waits until every host has its addresses, none are shared, and nobody writes any more.
func (c *cluster) settle(what string) map[string]allocation {
	c.t.Helper()
	return c.quiet(what, func(all map[string]allocation) error { return errors.Join(addressed(all), unique(all)) })
}

// quiet waits until nobody writes any more and there is no complaint.
func (c *cluster) quiet(what string, complaint func(map[string]allocation) error) map[string]allocation {
	c.t.Helper()
	const quiet = 3 * time.Second
	var last map[string]allocation
	since := time.Now()
	versions := func(all map[string]allocation) map[string]string {
		of := map[string]string{}
		for name, a := range all {
			of[name] = a.version
		}
		return of
	}
	await(c.t, what, func() error {
		all := c.allocations()
		if !maps.Equal(versions(all), versions(last)) {
			last, since = all, time.Now()
		}
		if err := complaint(all); err != nil {
			return err
		}
		if time.Since(since) < quiet {
			return errors.New("statuses still change")
		}
		return nil
	})
	return last
}

// unchanged fails the test where a ServiceEntry has other addresses since. It may have been written: a condition about a conflict
// comes once the conflict has stood for a while, which can be after all is quiet.
func unchanged(t *testing.T, before, after map[string]allocation) {
	t.Helper()
	for name, a := range before {
		if got, want := fmt.Sprint(after[name].hosts), fmt.Sprint(a.hosts); got != want {
			t.Errorf("addresses of %s: got %s, want %s as before", name, got, want)
		}
	}
}

// numbered is a ServiceEntry of many. Every tenth host belongs to two of them, in two namespaces.
func numbered(t *testing.T, number int) *unstructured.Unstructured {
	t.Helper()
	namespace, host := "near", fmt.Sprintf("host-%d.example.com", number)
	if number%10 == 1 {
		namespace, host = "far", fmt.Sprintf("host-%d.example.com", number-1)
	}
	return parse(t, fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: entry-%d, namespace: %s}
spec: {hosts: [%s], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
`, number, namespace, host))[0]
}

// each runs a change of each of many ServiceEntries, several at a time.
func each(t *testing.T, numbers []int, change func(*unstructured.Unstructured) error) {
	t.Helper()
	jobs := make(chan *unstructured.Unstructured)
	failures := make([]error, 8)
	var group sync.WaitGroup
	for i := range failures {
		group.Go(func() {
			for object := range jobs {
				failures[i] = errors.Join(failures[i], change(object))
			}
		})
	}
	for _, number := range numbers {
		jobs <- numbered(t, number)
	}
	close(jobs)
	group.Wait()
	check(t, errors.Join(failures...))
}

func sequence(from, to int) []int {
	var numbers []int
	for number := from; number < to; number++ {
		numbers = append(numbers, number)
	}
	return numbers
}

func (c *cluster) remove(object *unstructured.Unstructured) error {
	return c.objects.Resource(kinds["ServiceEntry"]).Namespace(object.GetNamespace()).Delete(c.t.Context(), object.GetName(), metav1.DeleteOptions{})
}

// label sets the label that says whether a ServiceEntry wants addresses.
func (c *cluster) label(object *unstructured.Unstructured, value string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{"networking.istio.io/enable-autoallocate-ip":%q}}}`, value)
	_, err := c.objects.Resource(kinds["ServiceEntry"]).Namespace(object.GetNamespace()).Patch(c.t.Context(), object.GetName(), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// TestBesideIstio runs Istio's allocator and ours together, on the same ranges, over hundreds of ServiceEntries
// that come, go and change: they must not fight, and no two hosts may have one address in the end.
func TestBesideIstio(t *testing.T) {
	const count = 300
	c := newCluster(t, namespaces...)
	theirs := startAllocator(t, c.plane.Kubeconfig())
	ours := c.startOurs()

	each(t, sequence(0, count), c.create)
	c.settle("all have addresses")

	// Deleted and made again, while others opt out.
	each(t, sequence(0, 60), c.remove)
	each(t, sequence(0, 60), c.create)
	each(t, sequence(100, 140), func(object *unstructured.Unstructured) error { return c.label(object, "False") })
	c.settle("who opted out has none")
	each(t, sequence(100, 140), func(object *unstructured.Unstructured) error { return c.label(object, "true") })
	both := c.settle("who is back has addresses")

	theirs.stop(t)
	alone := c.settle("ours alone")
	unchanged(t, both, alone)
	each(t, sequence(count, count+50), c.create)
	unchanged(t, alone, c.settle("new ones have addresses from ours"))
	ours.Stop(t, syscall.SIGTERM)
}

// TestAfterIstio has Istio give all addresses and stop: ours takes over and changes nothing. Then Istio comes
// back and changes nothing either.
func TestAfterIstio(t *testing.T) {
	const count = 200
	c := newCluster(t, namespaces...)
	theirs := startAllocator(t, c.plane.Kubeconfig())
	// Hosts of one ServiceEntry each: Istio gives every ServiceEntry its own, ours one to each host.
	var numbers []int
	for _, number := range sequence(0, count) {
		if number%10 != 1 {
			numbers = append(numbers, number)
		}
	}
	each(t, numbers, c.create)
	before := c.settle("all have addresses from Istio")
	theirs.stop(t)

	ours := c.startOurs()
	check(t, c.create(numbered(t, count)))
	after := c.settle("one more has addresses from ours")
	unchanged(t, before, after)

	startAllocator(t, c.plane.Kubeconfig())
	check(t, c.create(numbered(t, count+2)))
	unchanged(t, after, c.settle("one more has addresses from either"))
	ours.Stop(t, syscall.SIGTERM)
}

// TestQualifies holds which hosts are due virtual IPs: those that Istio's allocator gives them, and ours.
func TestQualifies(t *testing.T) {
	wild := func(object string) string {
		return strings.Replace(object, "hosts: [", "hosts: ['*.wild.example.com', ", 1)
	}
	endpoint := "\nendpoints: [{address: 198.51.100.9}]"
	tests := []struct {
		name, object string
		want         string // hosts that get addresses
	}{
		{"DNS", entry("a", "resolution: DNS"), "a.example.com"},
		{"DNS_ROUND_ROBIN", entry("a", "resolution: DNS_ROUND_ROBIN"), "a.example.com"},
		{"DYNAMIC_DNS", entry("a", "resolution: DYNAMIC_DNS"), "a.example.com"},
		{"STATIC", entry("a", "resolution: STATIC"+endpoint), "a.example.com"},
		{"STATIC with a workloadSelector", entry("a", "resolution: STATIC\nworkloadSelector: {labels: {app: a}}"), "a.example.com"},
		{"NONE", entry("a", "resolution: NONE"), ""},
		{"no resolution", entry("a", "location: MESH_EXTERNAL"), ""},
		{"mesh internal", entry("a", "location: MESH_INTERNAL\nresolution: DNS"), "a.example.com"},
		{"a literal address", entry("a", "resolution: DNS\naddresses: [198.51.100.1]"), ""},
		{"a network", entry("a", "resolution: STATIC\naddresses: [198.51.100.0/24]"+endpoint), ""},
		{"exported to nobody else", entry("a", "resolution: DNS\nexportTo: ['.']"), "a.example.com"},
		{"two hosts", strings.Replace(entry("a", "resolution: DNS"), "hosts: [", "hosts: [b.example.com, ", 1), "a.example.com b.example.com"},
		{"a wildcard and a host with DNS", wild(entry("a", "resolution: STATIC"+endpoint)), "a.example.com"},
		{"a wildcard and a host with DYNAMIC_DNS", wild(entry("a", "resolution: DYNAMIC_DNS")), "*.wild.example.com a.example.com"},
		{"a wildcard and a host with NONE", wild(entry("a", "resolution: NONE")), ""},
		{"label false", labelled(entry("a", "resolution: DNS"), firstLabel+"'false'"), ""},
		{"label False", labelled(entry("a", "resolution: DNS"), firstLabel+"'False'"), ""},
		{"label FALSE", labelled(entry("a", "resolution: DNS"), firstLabel+"'FALSE'"), ""},
		{"label true", labelled(entry("a", "resolution: DNS"), firstLabel+"'true'"), "a.example.com"},
		{"label 0", labelled(entry("a", "resolution: DNS"), firstLabel+"'0'"), "a.example.com"},
		{"empty label", labelled(entry("a", "resolution: DNS"), firstLabel+"''"), "a.example.com"},
	}
	run := func(t *testing.T, who string, start func(*cluster) (stop func())) {
		t.Helper()
		c := newCluster(t, namespaces...)
		stop := start(c)
		for i, test := range tests {
			// Each has hosts of its own.
			text := strings.NewReplacer("example.com", fmt.Sprintf("case-%d.example.com", i), "{name: a,", fmt.Sprintf("{name: case-%d,", i), " name: a,", fmt.Sprintf(" name: case-%d,", i)).Replace(test.object)
			check(t, c.create(parse(t, text)[0]))
		}
		// The last one shows that those before it have had their turn.
		check(t, c.create(parse(t, entry("zz-last", "resolution: DNS"))[0]))
		await(t, who+" gives the last its addresses", func() error {
			if len(c.allocations()["near/zz-last"].hosts) == 0 {
				return errors.New("it has none")
			}
			return nil
		})
		all := c.quiet(who+" is done", func(map[string]allocation) error { return nil })
		for i, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				got := strings.Join(slices.Sorted(maps.Keys(all[fmt.Sprintf("near/case-%d", i)].hosts)), " ")
				got = strings.ReplaceAll(got, fmt.Sprintf("case-%d.", i), "")
				if got != test.want {
					t.Errorf("Hosts with addresses from %s: got %q, want %q", who, cmp.Or(got, "none"), cmp.Or(test.want, "none"))
				}
			})
		}
		stop()
	}
	t.Run("Istio", func(t *testing.T) {
		run(t, "Istio", func(c *cluster) func() {
			a := startAllocator(t, c.plane.Kubeconfig())
			return func() { a.stop(t) }
		})
	})
	t.Run("meshvm", func(t *testing.T) {
		run(t, "meshvm", func(c *cluster) func() {
			p := c.startOurs()
			return func() { p.Stop(t, syscall.SIGTERM) }
		})
	})
}
