package supportbundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

// Secrets that the test plants.
const (
	webTokenSecret = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6cHJvZDpiaWxsaW5nIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
	opaqueSecret   = "plain-opaque-token-of-a-machine"
	keySecret      = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
	passSecret     = "hunter2hunter2"
	envSecret      = "s3cr3tvalue"
)

const keyBlock = "-----BEGIN PRIVATE KEY-----\n" + keySecret + "\n-----END PRIVATE KEY-----\n"

// everywhere is a text with all secrets in ways in which they turn up.
const everywhere = "begins well\nAuthorization: Bearer " + opaqueSecret + "\nerror: token " + webTokenSecret + " refused\n" + keyBlock +
	"proxy http://user:" + passSecret + "@proxy.example.com\nAPI_TOKEN=" + envSecret + "\n{\"password\": \"" + passSecret + "\"}\nbare " + opaqueSecret + "\nends well\n"

func plant(t *testing.T, m redirect.Machine, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Path(path), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// unpack is the files of an archive, and the name of the first.
func unpack(t *testing.T, path string) (files map[string]string, first string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, first
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = header.Name
		}
		files[header.Name] = string(content)
	}
}

func TestNoSecretIsInTheArchive(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, everywhere) }))
	defer web.Close()
	m := redirect.Machine{Root: t.TempDir(), Run: func(context.Context, string, ...string) ([]byte, error) {
		return []byte(everywhere), errors.New("failed with " + everywhere)
	}}
	address := strings.TrimPrefix(web.URL, "http://")
	plant(t, m, "/etc/meshvm/Corefile", ". {\n  prometheus "+address+"\n  pprof "+address+"\n  meshvm {\n    token /etc/meshvm/token\n  }\n}\n# "+everywhere)
	plant(t, m, "/etc/meshvm/meshvm.env", "GOMAXPROCS=2\nMY_SECRET="+envSecret+"\n"+everywhere)
	for _, path := range []string{"/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/os-release", redirect.UpstreamsFile, redirect.StateFile} {
		plant(t, m, path, everywhere)
	}
	plant(t, m, "/etc/meshvm/token", opaqueSecret+"\n")
	plant(t, m, "/etc/meshvm/client-key.pem", keyBlock)
	plant(t, m, "/var/lib/meshvm/registry.snapshot", "content of the registry")
	items := append(MachineItems(m), Item{Name: "status.json", About: "status", Collect: func(context.Context) ([]byte, error) { return []byte(everywhere), nil }})

	path := filepath.Join(t.TempDir(), "out.tar.gz")
	contents, err := Create(t.Context(), path, items, NewRedactor(Secrets(m)...))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("permissions: got %v, %v, want 0600", info.Mode(), err)
	}
	files, first := unpack(t, path)
	if first != "meshvm-support/CONTENTS" || files[first] != contents {
		t.Errorf("first: got %s, want the list of contents", first)
	}
	if len(files) != len(items)+1 {
		t.Errorf("files: got %d, want %d", len(files), len(items)+1)
	}
	parts := append(strings.Split(webTokenSecret, "."), opaqueSecret, keySecret, passSecret, envSecret, "content of the registry")
	for name, content := range files {
		for _, secret := range parts {
			if strings.Contains(content, secret) {
				t.Errorf("%s: got %q in\n%s", name, secret, content)
			}
		}
		if name != first && (!strings.Contains(content, "begins well") || !strings.Contains(content, "ends well")) {
			t.Errorf("%s: got\n%s\nwant the rest of it to stay", name, content)
		}
	}
	if got := files["meshvm-support/files/etc/meshvm/Corefile"]; !strings.Contains(got, "token /etc/meshvm/token") {
		t.Errorf("Corefile: got\n%s\nwant the name of the token's file in it", got)
	}
	if got := files["meshvm-support/files/etc/meshvm/meshvm.env"]; !strings.Contains(got, "GOMAXPROCS=2") {
		t.Errorf("environment: got\n%s\nwant what is no secret in it", got)
	}
	if _, err := Create(t.Context(), path, items, NewRedactor()); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file: got %v, want that there is one", err)
	}
}

func TestOrdinaryTextStays(t *testing.T) {
	for _, text := range []string{
		"the token has expired, see meshvmctl token inspect", "token /etc/meshvm/token", "github.com/meshvm/meshvm/plugin/watch.(*credentials).read",
		"a-very-long-name-of-a-service-that-is-no-secret-at-all.prod.svc.cluster.local", `"file": "/etc/meshvm/token"`, "coredns_meshvm_credential_expiry_timestamp_seconds",
	} {
		if got := string(NewRedactor().Redact([]byte(text))); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
}

func TestLargeItemsAreCut(t *testing.T) {
	content, err := gather(t.Context(), Item{Collect: func(context.Context) ([]byte, error) {
		return []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", maxItem/50)), nil
	}})
	if len(content) > maxItem || len(content) == 0 || len(content)%100 != 0 || err == nil {
		t.Errorf("got %d bytes and %v, want whole lines, at most %d bytes, and that it was cut", len(content), err, maxItem)
	}
}
