package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestBootstrapRefused(t *testing.T) {
	c := newCluster(t)
	c.createService("internal", corev1.ServiceTypeClusterIP)
	c.createService("pending", corev1.ServiceTypeLoadBalancer)
	c.createConfigMap("empty", nil)
	c.createConfigMap("wrong", map[string]string{"ca.crt": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"})
	given := []string{"--syncer", "192.0.2.1:15054", "--ca-file", c.pki.path("ca.crt")}
	notADirectory := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADirectory, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	unrelated := t.TempDir()
	if err := os.WriteFile(filepath.Join(unrelated, "thesis.tex"), []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		flags []string
		code  int
		want  []string
	}{
		"no ServiceAccount": {[]string{"--service-account", "absent"}, exitRefused, []string{
			"ServiceAccount " + c.namespace + "/absent does not exist", "kubectl create serviceaccount absent --namespace " + c.namespace}},
		"no ServiceAccount, with Istio's certificates": {[]string{"--service-account", "absent", "--istio-certs"}, exitRefused, []string{"kubectl create serviceaccount absent"}},
		"no namespace":          {[]string{"--namespace", "absent"}, exitRefused, []string{"ServiceAccount absent/vm does not exist"}},
		"no Service":            {[]string{"--syncer-service", "absent"}, exitRefused, []string{"no Service " + c.system + "/absent", "--syncer HOST:PORT"}},
		"Service of the inside": {[]string{"--syncer-service", "internal"}, exitRefused, []string{"type ClusterIP", "--syncer HOST:PORT"}},
		"no ingress yet":        {[]string{"--syncer-service", "pending"}, exitRefused, []string{"no address of its load balancer yet", "--syncer HOST:PORT"}},
		"no authority":          {[]string{"--ca-configmap", "absent"}, exitRefused, []string{"no ConfigMap " + c.system + "/absent", "--ca-file"}},
		"no authority's Secret": {[]string{"--ca-secret", "absent"}, exitRefused, []string{"no Secret " + c.system + "/absent", "--ca-file"}},
		"no key in ConfigMap":   {[]string{"--ca-configmap", "empty"}, exitRefused, []string{"/empty has no key ca.crt"}},
		"no certificate":        {[]string{"--ca-configmap", "wrong"}, exitRefused, []string{"/wrong: certificate 1"}},
		"no such CA file":       {[]string{"--ca-file", "/no/such/file"}, exitRefused, []string{"/no/such/file"}},
		"a key for a CA":        {[]string{"--ca-file", c.pki.path("ca.key")}, exitRefused, []string{"ca.key: no PEM certificate in it"}},
		"no right to the Service": {[]string{"--kubeconfig", c.kubeconfig(nobody)}, exitRefused, []string{
			`cannot get resource "services"`, `"nobody"`, "--syncer HOST:PORT"}},
		"no right to the authority": {[]string{"--kubeconfig", c.kubeconfig(nobody), "--syncer", "192.0.2.1:15054"}, exitRefused, []string{
			`cannot get resource "configmaps"`, "--ca-file"}},
		"no right to tokens": {append(given, "--kubeconfig", c.kubeconfig(nobody)), exitRefused, []string{
			"request a token of ServiceAccount " + c.namespace + "/vm", `cannot create resource "serviceaccounts/token"`}},
		"no right to create accounts": {append(given, "--kubeconfig", c.kubeconfig(nobody), "--create-service-account"), exitRefused, []string{
			`cannot create resource "serviceaccounts"`}},
		"a file for DIR":         {[]string{"--out", notADirectory}, exitRefused, []string{notADirectory, "not a directory"}},
		"a file above DIR":       {[]string{"--out", filepath.Join(notADirectory, "vm")}, exitRefused, []string{notADirectory, "not a directory"}},
		"nobody may write there": {[]string{"--out", "/proc/vm"}, exitRefused, []string{"/proc"}},
		"somebody's folder":      {[]string{"--out", unrelated}, exitRefused, []string{unrelated + " has other files and no ca.pem", "--force"}},
		"no such context":        {[]string{"--context", "absent"}, exitUsage, []string{`context "absent" does not exist`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "vm")
			code, stdout, stderr := c.bootstrap(out, test.flags...)
			if code != test.code || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and nothing else", code, stdout, stderr, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("Got %q, want it to say %q", stderr, want)
				}
			}
			if strings.Count(stderr, "\n") != 1 {
				t.Errorf("Got %q, want one line", stderr)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("Got a folder, want none")
			}
		})
	}
	if got := contents(t, unrelated); len(got) != 1 {
		t.Errorf("Somebody's folder: got %q, want it as it was", got)
	}
	if got := read(t, notADirectory); got != "mine\n" {
		t.Errorf("Somebody's file: got %q, want it as it was", got)
	}
}
