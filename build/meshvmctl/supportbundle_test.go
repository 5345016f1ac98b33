package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSupportBundle(t *testing.T) {
	const secret = "plain-token-of-this-machine"
	machine := vmFolder(t, map[string]string{"/etc/meshvm/token": secret, "/etc/meshvm/Corefile": ". {\n meshvm {\n  token /etc/meshvm/token\n }\n forward . https://vm:planted-user@192.0.2.1\n}\n",
		"/etc/meshvm/meshvm.env": "PROXY_PASSWORD=planted-env1\nAPI_KEY='planted env2'\n"})
	machine.Run = func(context.Context, string, ...string) ([]byte, error) {
		return []byte("said " + secret + "\nAuthorization: Bearer planted-log1\ntoken=planted-log2\n-----BEGIN EC PRIVATE KEY-----\nplanted-key1\n-----END EC PRIVATE KEY-----\n"), nil
	}
	s := supporting{
		machine: machine, socket: serveExplanations(t, "reviews.prod.svc.cluster.local"), names: []string{"reviews.prod.svc.cluster.local", "a b"},
		out: filepath.Join(t.TempDir(), "out.tar.gz"), timeout: time.Minute,
	}
	var stdout, stderr bytes.Buffer
	if code := s.run(t.Context(), &stdout, &stderr); code != exitDone {
		t.Fatalf("exit code: got %d, want %d; %s", code, exitDone, &stderr)
	}
	file, err := os.Open(s.out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), secret) || strings.Contains(string(content), "planted") {
			t.Errorf("%s: got a secret in\n%s", header.Name, content)
		}
		found[header.Name] = string(content)
	}
	for name, want := range map[string]string{
		"CONTENTS": "explain-1.json", "version.txt": version, "status.json": `"healthy"`, "explain-1.json": `"outcome": "answered"`,
		"files/etc/meshvm/Corefile": "token /etc/meshvm/token", "journal.txt": "said ",
	} {
		if got := found["meshvm-support/"+name]; !strings.Contains(got, want) {
			t.Errorf("%s: got\n%s\nwant %q in it", name, got, want)
		}
	}
	if code := s.run(t.Context(), &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "exists") {
		t.Errorf("Over a file: got %d, %q, want that there is one", code, &stderr)
	}
}
