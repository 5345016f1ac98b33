package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"go.uber.org/goleak"
)

// cluster is shared by the tests that leave it as they found it.
var cluster = NewShared(WithIstioCRDs())

func TestMain(m *testing.M) {
	if os.Getenv(orphanVariable) != "" {
		runAsParent()
	}
	os.Exit(cluster.Main(m))
}

// orphanVariable makes the test binary a parent that is killed without warning.
const orphanVariable = "MESHVM_CONTROLPLANE_PARENT"

// runAsParent starts a control plane, prints its processes and waits for death.
func runAsParent() {
	c, err := Run(context.Background(), Config{Directory: os.Getenv(orphanVariable)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.etcd.running.pid(), c.apiServer.running.pid())
	select {}
}

// eventually polls until the condition holds, and fails the test when it does
// not within a bound that only a fault reaches.
func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-timeout:
			t.Fatalf("%s: not within 30 s: %v", what, err)
		}
	}
}

func clientFor(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func createConfigMap(t *testing.T, c *ControlPlane, name string) {
	t.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := clientFor(t, c.RESTConfig()).CoreV1().ConfigMaps("default").Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create config map %s: %v", name, err)
	}
}

func wantConfigMap(t *testing.T, c *ControlPlane, name string) {
	t.Helper()
	if _, err := clientFor(t, c.RESTConfig()).CoreV1().ConfigMaps("default").Get(t.Context(), name, metav1.GetOptions{}); err != nil {
		t.Errorf("config map %s is not there any more: %v", name, err)
	}
}

// alive reports whether a process has that ID, a zombie included.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStopLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	c, err := Run(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{"etcd": c.etcd.running.pid(), "kube-apiserver": c.apiServer.running.pid()}
	for name, pid := range pids {
		if !alive(pid) {
			t.Errorf("%s (pid %d) does not run before Stop", name, pid)
		}
	}
	createConfigMap(t, c, "before-stop")
	if err := c.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	for name, pid := range pids {
		if alive(pid) {
			t.Errorf("%s (pid %d) is there after Stop", name, pid)
		}
	}
	if _, err := os.Stat(c.directory); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary folder after Stop: got %v, want it gone", err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("a second Stop: got %v, want nil", err)
	}
	if err := c.StartAPIServer(t.Context()); err == nil {
		t.Error("StartAPIServer after Stop: got nil, want an error")
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func TestServersRestart(t *testing.T) {
	c := Start(t)
	createConfigMap(t, c, "kept")
	address := c.RESTConfig().Host

	t.Run("API server stops although a watch is open, and comes back with its data", func(t *testing.T) {
		watcher, err := clientFor(t, c.RESTConfig()).CoreV1().Services("").Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Stop()
		before := time.Now()
		if err := c.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		t.Logf("stopped in %v", time.Since(before))
		wantWatchEnded(t, watcher)
		_, err = clientFor(t, c.RESTConfig()).CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{})
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a request to the stopped API server: got %v, want %v", err, syscall.ECONNREFUSED)
		}
		if err := c.StopAPIServer(); err == nil {
			t.Error("stop it twice: got nil, want an error")
		}
		before = time.Now()
		if err := c.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("started in %v", time.Since(before))
		if err := c.StartAPIServer(t.Context()); err == nil {
			t.Error("start it twice: got nil, want an error")
		}
		wantConfigMap(t, c, "kept")
	})
	t.Run("etcd stops under a running API server, and comes back with its data", func(t *testing.T) {
		if err := c.StopEtcd(); err != nil {
			t.Fatal(err)
		}
		if err := c.apiServerIsReady(t.Context()); err == nil {
			t.Error("the API server calls itself ready without etcd")
		}
		before := time.Now()
		if err := c.StartEtcd(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("started in %v", time.Since(before))
		wantConfigMap(t, c, "kept")
		createConfigMap(t, c, "new")
	})
	t.Run("both stop and come back", func(t *testing.T) {
		if err := errors.Join(c.StopEtcd(), c.StopAPIServer()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.StartEtcd(t.Context()), c.StartAPIServer(t.Context())); err != nil {
			t.Fatal(err)
		}
		wantConfigMap(t, c, "kept")
		wantConfigMap(t, c, "new")
	})
	if got := c.RESTConfig().Host; got != address {
		t.Errorf("address after restarts: got %s, want %s", got, address)
	}
}

func wantWatchEnded(t *testing.T, watcher watch.Interface) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case _, open := <-watcher.ResultChan():
			if !open {
				return
			}
		case <-deadline:
			t.Error("the watch is still open 10 s after the API server went")
			return
		}
	}
}

func TestDirectoryKeepsData(t *testing.T) {
	first := t.TempDir()
	c, err := Run(t.Context(), Config{Directory: first})
	if err != nil {
		t.Fatal(err)
	}
	createConfigMap(t, c, "seeded")
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}

	second := t.TempDir()
	if err := os.CopyFS(filepath.Join(second, "etcd"), os.DirFS(filepath.Join(first, "etcd"))); err != nil {
		t.Fatal(err)
	}
	c, err = Run(t.Context(), Config{Directory: second})
	if err != nil {
		t.Fatal(err)
	}
	wantConfigMap(t, c, "seeded")
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestFailuresAreReported(t *testing.T) {
	t.Run("a flag that the API server does not know", func(t *testing.T) {
		before := goleak.IgnoreCurrent()
		_, err := Run(t.Context(), Config{APIServerFlags: []string{"--no-such-flag"}})
		if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
			t.Errorf("got %v, want an error with what the API server said", err)
		}
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
	})
	t.Run("a folder without the servers", func(t *testing.T) {
		_, err := Run(t.Context(), Config{Binaries: t.TempDir()})
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want %v", err, fs.ErrNotExist)
		}
	})
	t.Run("a user given twice", func(t *testing.T) {
		_, err := Run(t.Context(), Config{Users: []User{{Name: SyncerUser}}})
		if err == nil || !strings.Contains(err.Error(), SyncerUser) {
			t.Errorf("got %v, want an error that names %s", err, SyncerUser)
		}
	})
	t.Run("a server that dies under a test", func(t *testing.T) {
		c, err := Run(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.etcd.running.signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-c.etcd.running.done
		pid := c.apiServer.running.pid()
		if err := c.Stop(); err == nil || !strings.Contains(err.Error(), "etcd had ended by itself: signal: killed") {
			t.Errorf("Stop: got %v, want an error that says etcd was killed", err)
		}
		if alive(pid) {
			t.Errorf("kube-apiserver (pid %d) is there after Stop", pid)
		}
	})
}

func TestNamespaceRemovesItsContent(t *testing.T) {
	c := cluster.ControlPlane(t)
	client := clientFor(t, c.RESTConfig())
	var name string
	t.Run("Test/With Ünusual_NAME", func(t *testing.T) {
		name = c.Namespace(t)
		if want := "testnamespaceremovesitscontent-test-with--nusual-n"; !strings.HasPrefix(name, want) {
			t.Errorf("got namespace %s, want it to begin with %s", name, want)
		}
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "left"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}
		if _, err := client.CoreV1().Services(name).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := client.CoreV1().Services(name).Get(t.Context(), "left", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a service left in the namespace: got %v, want not found", err)
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace: got %v, want not found", err)
	}
}
