package manifest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/test/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patienceOfTests bounds what a test waits for. It is long for a loaded machine, and no test waits
// it out when all is well.
const patienceOfTests = 20 * time.Second

// fixture is a folder, and a source that follows it into a registry.
type fixture struct {
	t        *testing.T
	dir      string
	registry *registry.Registry
	log      *transcript.Transcript
	metrics  *prometheus.Registry
	mesh     source.MeshOptions
	stop     func()
	// allocation of the source that is followed next. Nil: none.
	allocation *Allocation
	source     *Source
}

// newFixture writes files, given by name and content, and follows their folder.
func newFixture(t *testing.T, files ...string) *fixture {
	t.Helper()
	return newMeshFixture(t, source.MeshOptions{}, files...)
}

// newMeshFixture follows a mesh configuration too.
func newMeshFixture(t *testing.T, mesh source.MeshOptions, files ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, mesh: mesh, dir: filepath.Join(t.TempDir(), "manifests"), log: &transcript.Transcript{}}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		f.write(files[i], files[i+1])
	}
	f.follow(time.Second)
	return f
}

func (f *fixture) follow(rescan time.Duration) {
	f.t.Helper()
	f.registry, f.metrics = registry.New(registry.Options{}), prometheus.NewRegistry()
	s, err := New(Config{
		Dir:      f.dir,
		Registry: f.registry.AddSource("manifests"),
		Mesh:     f.mesh,
		Log:      slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics:  f.metrics,
		Rescan:   rescan,

		Allocation: f.allocation,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.source = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("Run: got %v, want no error", err)
		}
	})
	f.t.Cleanup(f.stop)
	select {
	case <-f.registry.Ready():
	case <-time.After(patienceOfTests):
		f.t.Fatal("the registry is not ready")
	}
}

func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fixture) do(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) write(name, content string) {
	f.t.Helper()
	f.do(os.WriteFile(f.path(name), []byte(content), 0o600))
}

// hosts are the hosts of the registry with their addresses.
func (f *fixture) hosts() []string {
	f.t.Helper()
	var hosts []string
	for _, entry := range f.registry.Content("default").Entries {
		var body registryv1.Body
		f.do(proto.Unmarshal(entry.Body, &body))
		if service := body.GetService(); service != nil {
			line := service.GetHost()
			for _, encoded := range service.GetAddresses() {
				address, _ := netip.AddrFromSlice(encoded)
				line += " " + address.String()
			}
			hosts = append(hosts, line)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// expect waits until the registry has exactly these hosts.
func (f *fixture) expect(want ...string) {
	f.t.Helper()
	deadline := time.After(patienceOfTests)
	for {
		revision := f.registry.Revision()
		got := f.hosts()
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-f.registry.Changed(revision):
		case <-deadline:
			f.t.Fatalf("hosts: got %q, want %q\nlog:\n%s", got, want, f.log)
		}
	}
}

// expectLog waits until the log has a line with all of these.
func (f *fixture) expectLog(parts ...string) {
	f.t.Helper()
	f.eventually("a log line with "+strings.Join(parts, ", "), func() bool {
		for line := range strings.SplitSeq(f.log.String(), "\n") {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return true
			}
		}
		return false
	})
}

func (f *fixture) eventually(what string, holds func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patienceOfTests)
	for tick := time.NewTicker(5 * time.Millisecond); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain for %s\nlog:\n%s", what, f.log)
		}
	}
}

func (f *fixture) healthy() bool {
	return f.registry.CurrentAt().After(time.Now().Add(-10 * time.Millisecond))
}

func service(name, address string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: %s}\n---\n", name, address)
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	into := registry.New(registry.Options{}).AddSource("manifests")
	file := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := prometheus.NewRegistry()
	if _, err := newMetrics(taken); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, want string
		config     Config
	}{
		{"a folder that is missing", "/no/such/folder", Config{Dir: "/no/such/folder", Registry: into}},
		{"a file in place of a folder", file, Config{Dir: file, Registry: into}},
		{"no folder at all", `""`, Config{Registry: into}},
		{"a cluster domain that is none", "cluster domain", Config{Dir: t.TempDir(), Registry: into, Translation: source.Options{ClusterDomain: "a..b"}}},
		{"no registry", "registry", Config{Dir: t.TempDir()}},
		{"metrics that are there already", "register metrics", Config{Dir: t.TempDir(), Registry: into, Metrics: taken}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := New(test.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: got %v, want an error that names %s", err, test.want)
			}
		})
	}
}

func TestRunFailsWhenTheFolderGoesBeforeItIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	into := registry.New(registry.Options{})
	s, err := New(Config{Dir: dir, Registry: into.AddSource("manifests"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Run: got %v, want an error that names %s", err, dir)
	}
	select {
	case <-into.Ready():
		t.Error("the registry is ready without having read anything")
	default:
	}
}

func TestInitialLoadIsOneRevision(t *testing.T) {
	f := newFixture(t,
		"a.yaml", service("a", "10.0.0.1")+service("b", "10.0.0.2"),
		"b.yml", service("c", "10.0.0.3"),
		"c.json", `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d", "namespace": "prod"}, "spec": {"clusterIP": "10.0.0.4"}}`,
		"README.md", "not: [a manifest",
		".hidden.yaml", service("hidden", "10.0.0.9"),
	)
	f.expect("a.default.svc.cluster.local 10.0.0.1", "b.default.svc.cluster.local 10.0.0.2",
		"c.default.svc.cluster.local 10.0.0.3", "d.prod.svc.cluster.local 10.0.0.4")
	if got := f.registry.Revision(); got != 1 {
		t.Errorf("revision after the initial load: got %d, want 1", got)
	}
}

func TestFollowsEdits(t *testing.T) {
	const a, b = "a.default.svc.cluster.local 10.0.0.1", "b.default.svc.cluster.local 10.0.0.2"
	for _, test := range []struct {
		name string
		edit func(f *fixture)
		want []string
	}{
		{"a file is created", func(f *fixture) { f.write("b.yaml", service("b", "10.0.0.2")) }, []string{a, b}},
		{"a file is changed", func(f *fixture) { f.write("a.yaml", service("a", "10.0.0.7")) }, []string{"a.default.svc.cluster.local 10.0.0.7"}},
		{"a file is appended to", func(f *fixture) {
			file, err := os.OpenFile(f.path("a.yaml"), os.O_APPEND|os.O_WRONLY, 0)
			f.do(err)
			_, err = file.WriteString("---\n" + service("b", "10.0.0.2"))
			f.do(err)
			f.do(file.Close())
		}, []string{a, b}},
		{"a file is deleted", func(f *fixture) { f.do(os.Remove(f.path("a.yaml"))) }, nil},
		{"a file is emptied", func(f *fixture) { f.write("a.yaml", "") }, nil},
		{"a file is renamed", func(f *fixture) { f.do(os.Rename(f.path("a.yaml"), f.path("z.yml"))) }, []string{a}},
		{"a file is renamed to what is no manifest", func(f *fixture) { f.do(os.Rename(f.path("a.yaml"), f.path("a.bak"))) }, nil},
		{"a file is moved away", func(f *fixture) { f.do(os.Rename(f.path("a.yaml"), filepath.Join(filepath.Dir(f.dir), "a.yaml"))) }, nil},
		{"an editor renames a new file over the old one", func(f *fixture) {
			f.write(".a.yaml.swp", service("a", "10.0.0.7"))
			f.do(os.Rename(f.path(".a.yaml.swp"), f.path("a.yaml")))
		}, []string{"a.default.svc.cluster.local 10.0.0.7"}},
		{"an editor moves the old file to a backup and writes a new one", func(f *fixture) {
			f.do(os.Rename(f.path("a.yaml"), f.path("a.yaml~")))
			f.write("a.yaml", service("a", "10.0.0.7"))
		}, []string{"a.default.svc.cluster.local 10.0.0.7"}},
		{"a file becomes a symbolic link", func(f *fixture) {
			target := filepath.Join(filepath.Dir(f.dir), "target")
			f.do(os.WriteFile(target, []byte(service("a", "10.0.0.7")), 0o600))
			f.do(os.Remove(f.path("a.yaml")))
			f.do(os.Symlink(target, f.path("a.yaml")))
		}, []string{"a.default.svc.cluster.local 10.0.0.7"}},
		{"content of the same size at the same time", func(f *fixture) {
			info, err := os.Stat(f.path("a.yaml"))
			f.do(err)
			f.write("a.yaml", service("a", "10.0.0.7"))
			f.do(os.Chtimes(f.path("a.yaml"), info.ModTime(), info.ModTime()))
		}, []string{"a.default.svc.cluster.local 10.0.0.7"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, "a.yaml", service("a", "10.0.0.1"))
			f.expect(a)
			test.edit(f)
			f.expect(test.want...)
		})
	}
}

func TestWithoutEventsTheRescanFindsEdits(t *testing.T) {
	f := newFixture(t, "a.yaml", service("a", "10.0.0.1"))
	f.stop()
	// A link within a link: events of the innermost file reach nobody.
	outside := filepath.Join(filepath.Dir(f.dir), "outside")
	f.do(os.Mkdir(outside, 0o700))
	f.do(os.Mkdir(filepath.Join(outside, "one"), 0o700))
	f.do(os.Mkdir(filepath.Join(outside, "two"), 0o700))
	f.do(os.WriteFile(filepath.Join(outside, "one", "b.yaml"), []byte(service("b", "10.0.0.1")), 0o600))
	f.do(os.WriteFile(filepath.Join(outside, "two", "b.yaml"), []byte(service("b", "10.0.0.2")), 0o600))
	f.do(os.Symlink("one", filepath.Join(outside, "current")))
	f.do(os.Symlink(filepath.Join(outside, "current", "b.yaml"), f.path("b.yaml")))
	f.follow(50 * time.Millisecond)
	f.expect("a.default.svc.cluster.local 10.0.0.1", "b.default.svc.cluster.local 10.0.0.1")
	f.do(os.Symlink("two", filepath.Join(outside, "next")))
	f.do(os.Rename(filepath.Join(outside, "next"), filepath.Join(outside, "current")))
	f.expect("a.default.svc.cluster.local 10.0.0.1", "b.default.svc.cluster.local 10.0.0.2")
}

func TestFollowsWhatALinkLeadsTo(t *testing.T) {
	f := newFixture(t)
	f.stop()
	target := filepath.Join(t.TempDir(), "target.txt")
	f.do(os.WriteFile(target, []byte(service("a", "10.0.0.1")), 0o600))
	f.do(os.Symlink(target, f.path("a.yaml")))
	f.follow(time.Hour) // Events only.
	f.expect("a.default.svc.cluster.local 10.0.0.1")
	f.do(os.WriteFile(target, []byte(service("a", "10.0.0.2")), 0o600))
	f.expect("a.default.svc.cluster.local 10.0.0.2")
	f.do(os.Remove(target))
	f.expectLog("a.yaml", "no such file or directory")
	f.expect("a.default.svc.cluster.local 10.0.0.2")
	f.do(os.WriteFile(target, []byte(service("a", "10.0.0.3")), 0o600))
	f.expect("a.default.svc.cluster.local 10.0.0.3")
}

// A ConfigMap volume: every file is a link through ..data, which is swapped as one.
func TestConfigMapSwap(t *testing.T) {
	f := newFixture(t)
	f.stop()
	generation := func(name string, files ...string) {
		f.do(os.Mkdir(f.path(name), 0o700))
		for i := 0; i < len(files); i += 2 {
			f.write(filepath.Join(name, files[i]), files[i+1])
		}
		f.do(os.Symlink(name, f.path("..data_tmp")))
		f.do(os.Rename(f.path("..data_tmp"), f.path("..data")))
	}
	generation("..2026_01", "a.yaml", service("a", "10.0.0.1"), "b.yaml", service("b", "10.0.0.2"))
	f.do(os.Symlink("..data/a.yaml", f.path("a.yaml")))
	f.do(os.Symlink("..data/b.yaml", f.path("b.yaml")))
	f.follow(time.Hour) // Events only.
	f.expect("a.default.svc.cluster.local 10.0.0.1", "b.default.svc.cluster.local 10.0.0.2")
	before := f.registry.Revision()

	generation("..2026_02", "a.yaml", service("a", "10.0.0.7"), "b.yaml", service("b", "10.0.0.8"))
	f.do(os.RemoveAll(f.path("..2026_01")))
	f.expect("a.default.svc.cluster.local 10.0.0.7", "b.default.svc.cluster.local 10.0.0.8")
	if got := f.registry.Revision(); got != before+1 {
		t.Errorf("revisions that a swap takes: got %d, want 1", got-before)
	}

	generation("..2026_03", "a.yaml", service("a", "10.0.0.7"))
	f.do(os.Remove(f.path("b.yaml")))
	f.expect("a.default.svc.cluster.local 10.0.0.7")
}

func TestABrokenFileKeepsItsLastGoodContent(t *testing.T) {
	f := newFixture(t,
		"a.yaml", service("a", "10.0.0.1")+service("b", "10.0.0.2"),
		"broken.yaml", "a: b: c\n",
		"c.yaml", service("c", "10.0.0.3"))
	f.expectLog("at=broken.yaml:1", "mapping values", "want=YAML")

	f.write("a.yaml", service("a", "10.0.0.7")+"apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  clusterip: 10.0.0.2\n")
	f.expectLog("at=a.yaml:10", "spec.clusterip", "want=")
	f.write("c.yaml", service("c", "10.0.0.8"))
	f.expect("a.default.svc.cluster.local 10.0.0.1", "b.default.svc.cluster.local 10.0.0.2", "c.default.svc.cluster.local 10.0.0.8")
	f.expectMetrics(3, 3, 2)

	f.write("a.yaml", service("a", "10.0.0.7"))
	f.do(os.Remove(f.path("broken.yaml")))
	f.expect("a.default.svc.cluster.local 10.0.0.7", "c.default.svc.cluster.local 10.0.0.8")
	f.expectMetrics(2, 2, 0)
	if n := strings.Count(f.log.String(), "at=broken.yaml:1"); n != 1 {
		t.Errorf("a fault that stays was logged %d times, want once", n)
	}
}

func (f *fixture) expectMetrics(files, objects, errors int) {
	f.t.Helper()
	want := fmt.Sprintf(`# HELP meshvm_syncer_manifest_errors Present problems of manifest files and the objects in them.
# TYPE meshvm_syncer_manifest_errors gauge
meshvm_syncer_manifest_errors %d
# HELP meshvm_syncer_manifest_files Manifest files in the folder.
# TYPE meshvm_syncer_manifest_files gauge
meshvm_syncer_manifest_files %d
# HELP meshvm_syncer_manifest_objects Objects in the last good content of the manifest files.
# TYPE meshvm_syncer_manifest_objects gauge
meshvm_syncer_manifest_objects %d
`, errors, files, objects)
	var err error
	f.eventually(want, func() bool {
		err = testutil.GatherAndCompare(f.metrics, strings.NewReader(want),
			"meshvm_syncer_manifest_errors", "meshvm_syncer_manifest_files", "meshvm_syncer_manifest_objects")
		return err == nil
	})
}

// An editor that writes in place empties the file first. Nobody may see that.
func TestAFileThatIsBeingWrittenLosesNothing(t *testing.T) {
	f := newFixture(t, "a.yaml", service("a", "10.0.0.1")+service("b", "10.0.0.2"))
	before := f.registry.Revision()
	for i := range 5 {
		file, err := os.Create(f.path("a.yaml"))
		f.do(err)
		// Events of the emptied file have come by now, and those of the next write have not.
		timer := time.NewTimer(3 * quiet)
		select {
		case <-f.registry.Changed(before + uint64(i)):
			t.Fatalf("hosts of an emptied file: got %q, want those it held", f.hosts())
		case <-timer.C:
		}
		_, err = file.WriteString(service("a", fmt.Sprintf("10.0.1.%d", i)) + service("b", "10.0.0.2"))
		f.do(err)
		f.do(file.Close())
		f.expect(fmt.Sprintf("a.default.svc.cluster.local 10.0.1.%d", i), "b.default.svc.cluster.local 10.0.0.2")
	}
}

func TestABadObjectTouchesNoOther(t *testing.T) {
	const bad = "apiVersion: v1\nkind: Service\nmetadata: {name: bad, annotations: {networking.istio.io/exportTo: '!'}}\nspec: {clusterIP: %s}\n---\n"
	f := newFixture(t, "a.yaml", service("bad", "10.0.0.1")+service("b", "10.0.0.2"))
	f.write("a.yaml", fmt.Sprintf(bad, "10.0.0.7")+service("b", "10.0.0.8"))
	f.expect("b.default.svc.cluster.local 10.0.0.8", "bad.default.svc.cluster.local 10.0.0.1")
	f.expectLog("level=ERROR", "at=a.yaml:1", `object="Service default/bad"`, "exportTo", "last good state stays")
	f.expectMetrics(1, 2, 1)
}

func TestAServiceWithoutClusterIPIsServedAndReported(t *testing.T) {
	f := newFixture(t, "a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}}\n")
	f.expect("a.default.svc.cluster.local")
	f.expectLog("level=WARN", "at=a.yaml:1", "field=spec.clusterIP", "want=")
}

func TestAnObjectInTwoFiles(t *testing.T) {
	f := newFixture(t, "a.yaml", service("x", "10.0.0.1"), "b.yaml", "# one\n"+service("x", "10.0.0.2"))
	f.expect("x.default.svc.cluster.local 10.0.0.1")
	f.expectLog("b.yaml:2: Service default/x is in a.yaml:1 already")
	f.expectMetrics(2, 2, 1)
	f.do(os.Remove(f.path("a.yaml")))
	f.expect("x.default.svc.cluster.local 10.0.0.2")
	f.expectMetrics(1, 1, 0)
	f.write("0.yaml", service("x", "10.0.0.3")+service("x", "10.0.0.4"))
	f.expect("x.default.svc.cluster.local 10.0.0.3")
	f.expectLog("0.yaml:6: Service default/x is in 0.yaml:1 already")
}

func TestAFolderThatGoesTakesNothingAway(t *testing.T) {
	f := newFixture(t, "a.yaml", service("a", "10.0.0.1"))
	away := f.dir + ".away"
	f.do(os.Rename(f.dir, away))
	f.expectLog("level=ERROR", "cannot read the folder", f.dir)
	f.eventually("the source to be unhealthy", func() bool { return !f.healthy() })
	f.expect("a.default.svc.cluster.local 10.0.0.1")

	f.do(os.Mkdir(f.dir, 0o700))
	f.write("a.yaml", service("a", "10.0.0.2"))
	f.expect("a.default.svc.cluster.local 10.0.0.2")
	f.eventually("the source to be healthy", f.healthy)
	f.expectLog("the folder of manifests is back")
	// The new folder is watched like the old one.
	f.write("a.yaml", service("a", "10.0.0.3"))
	f.expect("a.default.svc.cluster.local 10.0.0.3")
}

func TestTooManyFilesAreReportedAndThoseKnownStay(t *testing.T) {
	dir := t.TempDir()
	long := time.Now().Add(-time.Hour) // Nobody is writing any more.
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, long, long)); err != nil {
			t.Fatal(err)
		}
	}
	f := folder{dir: dir, files: map[string]*file{}, limit: 3}
	for i := range f.limit {
		write(fmt.Sprintf("n%d.yaml", i), "")
	}
	if _, err := f.refresh(); err != nil || f.refused != 0 || len(f.files) != f.limit {
		t.Fatalf("got %v, %d refused of %d, want none", err, f.refused, len(f.files))
	}
	write("a.yaml", service("a", "10.0.0.1"))
	if _, err := f.refresh(); err != nil || f.refused != 1 || f.files["a.yaml"] != nil || f.files["n0.yaml"] == nil {
		t.Errorf("got %v, %d refused, want the new file refused", err, f.refused)
	}
	if err := os.Remove(filepath.Join(dir, "n0.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.refresh(); err != nil || f.refused != 0 || f.files["a.yaml"] == nil {
		t.Errorf("got %v, %d refused, want the new file read once there is room", err, f.refused)
	}
}

func TestEndpointSlicesAndNamespaces(t *testing.T) {
	f := newFixture(t, "a.yaml", `apiVersion: v1
kind: Namespace
metadata: {name: prod}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1], hostname: db-0}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: prod}
spec: {clusterIP: None}
`)
	f.expect("db.prod.svc.cluster.local")
	if !f.registry.NamespaceExists("prod") {
		t.Error("namespace prod: got none, want it to exist")
	}
	slices := f.registry.Slices("", "prod", "db")
	if len(slices) != 1 || !slices[0].Visibility.Equal(registry.Public()) {
		t.Errorf("slices: got %v, want one that everyone sees", slices)
	}
}
