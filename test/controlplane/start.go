package controlplane

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Option changes a Config.
type Option func(*Config)

// WithUser has the API server know a user by that RBAC name and groups.
func WithUser(name string, groups ...string) Option {
	return func(c *Config) { c.Users = append(c.Users, User{Name: name, Groups: groups}) }
}

// WithAPIServerFlags adds flags of kube-apiserver.
func WithAPIServerFlags(flags ...string) Option {
	return func(c *Config) { c.APIServerFlags = append(c.APIServerFlags, flags...) }
}

// WithIstioCRDs installs Istio's custom resource definitions at the start.
func WithIstioCRDs() Option {
	return func(c *Config) { c.IstioCRDs = true }
}

// Start runs a control plane for one test and stops it at the test's end. When
// the test failed, the ends of the servers' logs go to the test's log. It never
// skips: without the servers it builds them, and fails the test when it cannot.
func Start(t testing.TB, options ...Option) *ControlPlane {
	t.Helper()
	c, err := Run(t.Context(), configOf(options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		logOnFailure(t, c)
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func configOf(options []Option) Config {
	var config Config
	for _, option := range options {
		option(&config)
	}
	return config
}

func logOnFailure(t testing.TB, c *ControlPlane) {
	t.Helper()
	if t.Failed() {
		t.Log(c.LogTail(40))
	}
}

// LogTail returns the last lines of each server's log, for a person to read.
func (c *ControlPlane) LogTail(lines int) string {
	return fmt.Sprintf("etcd's log ends:\n%s\nkube-apiserver's log ends:\n%s",
		c.etcd.logTail(lines), c.apiServer.logTail(lines))
}

// Shared is one control plane for all tests of a package, started when the first
// of them asks, so that a run of tests that do not ask pays nothing:
//
//	var cluster = controlplane.NewShared(controlplane.WithIstioCRDs())
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		c := cluster.ControlPlane(t)
//		namespace := c.Namespace(t)
//		...
type Shared struct {
	start func() (*ControlPlane, error)

	mu      sync.Mutex
	started *ControlPlane
}

// NewShared returns a control plane that does not run yet.
func NewShared(options ...Option) *Shared {
	s := &Shared{}
	s.start = sync.OnceValues(func() (*ControlPlane, error) {
		// No test's context: the control plane outlives the test that starts it.
		c, err := Run(context.Background(), configOf(options))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.started = c
		return c, err
	})
	return s
}

// Main runs the tests, stops the control plane if one was started, and returns
// the exit code. It belongs into TestMain; without it the control plane is not
// stopped in an orderly way.
func (s *Shared) Main(m interface{ Run() int }) int {
	code := m.Run()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started == nil {
		return code
	}
	if err := s.started.Stop(); err != nil {
		fmt.Println(err)
		return max(code, 1)
	}
	return code
}

// ControlPlane returns the package's control plane, running. When the test
// fails, the ends of the servers' logs go to its log. Where the control plane
// could not be started, every test that asks for it fails.
func (s *Shared) ControlPlane(t testing.TB) *ControlPlane {
	t.Helper()
	c, err := s.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { logOnFailure(t, c) })
	return c
}

// cleanupTimeout bounds what a test's cleanup asks of the API server.
const cleanupTimeout = 30 * time.Second
