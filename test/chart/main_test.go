//go:build chart

// Package chart installs the Helm chart on a real API server, runs the programs as its Deployments say, with the
// ServiceAccounts and roles that it makes, and has a VM ask them.
package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

var (
	plane  *controlplane.Shared
	audits string // the API server's audit log
	root   string // of the repository
)

// programTests runs the tests once the programs are built.
type programTests struct{ m *testing.M }

func (p programTests) Run() int {
	return programs.Main(p.m, programs.Syncer, programs.CoreDNS, programs.Operator)
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if root, err = controlplane.RepositoryRoot(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "meshvm-chart-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	audits = filepath.Join(dir, "audit.log")
	plane = controlplane.NewShared(controlplane.WithIstioCRDs(), controlplane.WithAPIServerFlags(
		"--audit-policy-file="+filepath.Join(root, "test", "chart", "testdata", "audit-policy.yaml"), "--audit-log-path="+audits))
	return plane.Main(programTests{m}), nil
}
