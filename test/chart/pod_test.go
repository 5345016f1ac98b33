//go:build chart

package chart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/test/programs"
)

// pod is a syncer that runs as the chart's Deployment says: its flags, its volumes, its ServiceAccount. What differs is what a
// process has that is in no container: where files are, which ports are free, and how the API server is found.
type pod struct {
	c          *cluster
	spec       corev1.PodSpec
	files      string            // stands for the root of its file system
	addresses  map[string]string // by the container's port
	kubeconfig string
	process    *programs.Process
}

// schedule makes a pod of a Deployment; start starts it.
func (c *cluster) schedule(t *testing.T) *pod {
	t.Helper()
	deployment, err := c.clients.AppsV1().Deployments(namespace).Get(t.Context(), release, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{c: c, spec: deployment.Spec.Template.Spec, files: t.TempDir(), addresses: map[string]string{}}
	p.mount(t)
	for _, port := range p.spec.Containers[0].Ports {
		p.addresses[port.Name] = programs.FreeAddress(t)
	}
	if p.kubeconfig, err = c.plane.KubeconfigForServiceAccount(t.Context(), namespace, p.spec.ServiceAccountName); err != nil {
		t.Fatal(err)
	}
	return p
}

// mount writes the pod's volumes, as the kubelet does at its start and after each change.
func (p *pod) mount(t *testing.T) {
	t.Helper()
	for _, mount := range p.spec.Containers[0].VolumeMounts {
		for _, volume := range p.spec.Volumes {
			if volume.Name == mount.Name {
				p.mountVolume(t, volume, filepath.Join(p.files, mount.MountPath))
			}
		}
	}
}

func (p *pod) mountVolume(t *testing.T, volume corev1.Volume, dir string) {
	t.Helper()
	content, items := map[string][]byte{}, []corev1.KeyToPath(nil)
	switch {
	case volume.Secret != nil:
		secret, err := p.c.clients.CoreV1().Secrets(namespace).Get(t.Context(), volume.Secret.SecretName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		content, items = secret.Data, volume.Secret.Items
	case volume.ConfigMap != nil:
		configMap, err := p.c.clients.CoreV1().ConfigMaps(namespace).Get(t.Context(), volume.ConfigMap.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range configMap.Data {
			content[key] = []byte(value)
		}
		items = volume.ConfigMap.Items
	default:
		t.Fatalf("volume %s is neither a Secret nor a ConfigMap", volume.Name)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		value, found := content[item.Key]
		if !found {
			t.Fatalf("volume %s has no key %s", volume.Name, item.Key)
		}
		file := filepath.Join(dir, item.Path)
		if err := errors.Join(os.WriteFile(file+".new", value, 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
}

// start starts the pod's program; more are flags besides.
func (p *pod) start(t *testing.T, more ...string) {
	t.Helper()
	args := []string{"--kubeconfig=" + p.kubeconfig}
	for _, arg := range p.spec.Containers[0].Args {
		switch {
		case arg == "--listen=:15054":
			arg = "--listen=" + p.addresses["grpc-watch"]
		case arg == "--http-listen=:15055":
			arg = "--http-listen=" + p.addresses["http-metrics"]
		default:
			arg = strings.Replace(arg, "=/etc/", "="+p.files+"/etc/", 1)
		}
		args = append(args, arg)
	}
	p.process = programs.Start(t, programs.Syncer, append(args, more...)...)
}

func (p *pod) stop(t *testing.T) {
	t.Helper()
	p.process.Stop(t, syscall.SIGTERM)
}

// get is what the pod's HTTP port serves.
func (p *pod) get(path string) (string, error) {
	status, body, err := p.fetch(path, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d: %s", path, status, strings.TrimSpace(body))
	}
	return body, err
}

// fetch asks the pod's HTTP port as its probes do, over TLS where they say so, with a token if there is one.
func (p *pod) fetch(path, token string) (status int, body string, err error) {
	scheme, client := "http", http.DefaultClient
	if p.spec.Containers[0].ReadinessProbe.HTTPGet.Scheme == corev1.URISchemeHTTPS {
		authorities := x509.NewCertPool()
		secret, err := p.c.clients.CoreV1().Secrets(namespace).Get(context.Background(), "meshvm-syncer-tls", metav1.GetOptions{})
		if err != nil {
			return 0, "", err
		}
		authorities.AppendCertsFromPEM(secret.Data["ca.crt"])
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, ServerName: "meshvm-syncer.meshvm.svc", MinVersion: tls.VersionTLS12}}
		defer transport.CloseIdleConnections()
		scheme, client = "https", &http.Client{Transport: transport}
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, scheme+"://"+p.addresses["http-metrics"]+path, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

// ready waits until the pod's readiness probe is content.
func (p *pod) ready(t *testing.T) {
	t.Helper()
	probe := p.spec.Containers[0].ReadinessProbe.HTTPGet
	eventually(t, "a ready syncer", func() error {
		_, err := p.get(probe.Path)
		return err
	})
}

// knows is nil when the syncer has a host, for a namespace, with something in its explanation.
func (p *pod) knows(host, part string) error {
	body, err := p.get("/debug/registry?name=" + host + "&namespace=prod")
	if err != nil {
		return err
	}
	var explanation any
	if err := json.Unmarshal([]byte(body), &explanation); err != nil {
		return err
	}
	if !strings.Contains(body, part) {
		return fmt.Errorf("%s: no %q in %s", host, part, body)
	}
	return nil
}
