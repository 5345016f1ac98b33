package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func TestIdentify(t *testing.T) {
	plaintext := []string(nil)
	tests := map[string]struct {
		uris  []string // of the certificate; nil: plaintext
		hello string
		want  string
		code  codes.Code
	}{
		"plaintext, hello":            {plaintext, "prod", "prod", codes.OK},
		"plaintext, nothing":          {plaintext, "", "", codes.OK},
		"plaintext, no label":         {plaintext, "a.b", "", codes.InvalidArgument},
		"no SPIFFE ID, hello":         {[]string{}, "prod", "prod", codes.OK},
		"another URI, hello":          {[]string{"https://example.com/ns/dev/sa/x"}, "prod", "prod", codes.OK},
		"SPIFFE ID":                   {[]string{"spiffe://cluster.local/ns/dev/sa/vm"}, "", "dev", codes.OK},
		"SPIFFE ID over hello":        {[]string{"spiffe://cluster.local/ns/dev/sa/vm"}, "prod", "dev", codes.OK},
		"two SPIFFE IDs":              {[]string{"spiffe://a/ns/dev/sa/vm", "spiffe://a/ns/prod/sa/vm"}, "", "", codes.PermissionDenied},
		"SPIFFE ID and another URI":   {[]string{"spiffe://a/ns/dev/sa/vm", "https://example.com"}, "", "", codes.PermissionDenied},
		"SPIFFE ID of another form":   {[]string{"spiffe://a/workload/vm"}, "prod", "", codes.PermissionDenied},
		"SPIFFE ID without namespace": {[]string{"spiffe://a/ns//sa/vm"}, "prod", "", codes.PermissionDenied},
		"SPIFFE ID without account":   {[]string{"spiffe://a/ns/dev/sa/"}, "prod", "", codes.PermissionDenied},
		"SPIFFE ID without domain":    {[]string{"spiffe:///ns/dev/sa/vm"}, "prod", "", codes.PermissionDenied},
		"SPIFFE ID with more":         {[]string{"spiffe://a/ns/dev/sa/vm/x"}, "prod", "", codes.PermissionDenied},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1234}}
			if test.uris != nil {
				certificate := &x509.Certificate{}
				for _, text := range test.uris {
					uri, err := url.Parse(text)
					if err != nil {
						t.Fatal(err)
					}
					certificate.URIs = append(certificate.URIs, uri)
				}
				p.AuthInfo = credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}}
			}
			got, err := identify(peer.NewContext(t.Context(), p), &registryv1.Hello{Namespace: test.hello})
			if status.Code(err) != test.code || got.namespace != test.want {
				t.Errorf("got namespace %q, %v; want %q, %v", got.namespace, err, test.want, test.code)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"plain":                {"vm-1.example.com", "vm-1.example.com"},
		"beyond ASCII":         {"größe", "größe"},
		"control characters":   {"a\x1b[2J\nb\x00", "a?[2J?b?"},
		"broken UTF-8":         {"a\xffb", "a?b"},
		"too long":             {strings.Repeat("x", 40), strings.Repeat("x", 20)},
		"cut within character": {strings.Repeat("x", 19) + "ö", strings.Repeat("x", 19) + "?"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := printable(test.in, 20); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
