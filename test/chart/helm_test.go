//go:build chart

package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Both Helms that operators have.
var helms = []string{"helm", "helm3"}

const (
	release   = "meshvm-syncer"
	namespace = "meshvm"
)

func chartFolder() string { return filepath.Join(root, "deploy", "kubernetes", "meshvm-syncer") }

// helm runs a version of Helm, and returns what it printed, and as an error what it complained of.
func helm(ctx context.Context, dir, version string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, filepath.Join(root, "bin", "test", version), args...)
	// Nothing of the person who runs the tests.
	command.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %v: %w: %s", version, args, err, &stderr)
	}
	return stdout.String(), nil
}

// values writes values to a file and returns flags of Helm with them.
func values(t *testing.T, text string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--values", file}
}

// template is what a version of Helm renders, without a cluster.
func template(t *testing.T, version, text string) (string, error) {
	t.Helper()
	args := append([]string{"template", release, chartFolder(), "--namespace", namespace, "--kube-version", "1.31.0"}, values(t, text)...)
	return helm(t.Context(), t.TempDir(), version, args...)
}

// parse is the objects of a stream of YAML.
func parse(rendered string) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(rendered)), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}
