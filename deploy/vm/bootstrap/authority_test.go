package bootstrap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority is a certificate that ends at a time, and its key.
func authority(tb testing.TB, serial int64, end time.Time) (certificate, key string) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: end, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		tb.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

func TestReadAuthorities(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	first, key := authority(t, 1, now.Add(time.Hour))
	second, _ := authority(t, 2, now.Add(time.Hour))
	over, _ := authority(t, 3, now.Add(-time.Hour))
	tests := map[string]struct{ content, want, problem string }{
		"one":                        {first, first, ""},
		"two":                        {first + second, first + second, ""},
		"twice the same":             {first + second + first, first + second, ""},
		"text around it":             {"Subject: mesh\n" + first + "\n# end", first, ""},
		"a key beside it":            {key + first, first, ""},
		"one of two has expired":     {over + first, over + first, ""},
		"all have expired":           {over, "", "it has expired"},
		"a key alone":                {key, "", "no PEM certificate in it"},
		"nothing":                    {"", "", "no PEM certificate in it"},
		"a certificate that is none": {first + "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "", "certificate 2: "},
		"too much":                   {strings.Repeat(first, 5000), "", "larger than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ca.crt")
			put(t, file, test.content)
			got, err := ReadAuthorities(file, now)
			switch {
			case test.problem == "" && (err != nil || string(got) != test.want):
				t.Errorf("Got %q, %v, want %q", got, err, test.want)
			case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem) || !strings.Contains(err.Error(), file)):
				t.Errorf("Got %v, want %q and the file", err, test.problem)
			}
		})
	}
}

// fuzzSeed is the same in every process that fuzzes. It ends in 2126.
const fuzzSeed = `-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUaDHnnjKlH2C5kunfk1o4UIy0h8YwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEbWVzaDAgFw0yNjExMjMwODU1NDhaGA8yMTI2MTAzMDA4NTU0
OFowDzENMAsGA1UEAwwEbWVzaDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJPj
m8B1+Gmu4Z+jWaY2UYhfBAYWlkNU/qwAbDo/feQk60ShGMceILRyQcjI+ehPAis6
0HCJUD09RNiX9xkzeqajUzBRMB0GA1UdDgQWBBQOZ8x7xGC0LAqrqnPTM2seNB/c
YjAfBgNVHSMEGDAWgBQOZ8x7xGC0LAqrqnPTM2seNB/cYjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQDjjb8sEdoeV6SiHkNwwk2RhAQ5UApLDC7k
RlcEQUygSgIgB7GGZhGQ7x73sO/cT1366GWe6uDq388Sira3s7gz2Es=
-----END CERTIFICATE-----
`

func FuzzParseAuthorities(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add([]byte(fuzzSeed))
	f.Add([]byte("a" + fuzzSeed + "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n" + fuzzSeed))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := parseAuthorities(content, now)
		if err != nil {
			return
		}
		if strings.Contains(string(got), "PRIVATE KEY") {
			t.Errorf("Got %q, want certificates only", got)
		}
		again, err := parseAuthorities(got, now)
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("Read again: got %q, %v, want %q", again, err, got)
		}
	})
}
