package join

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/meshvm/meshvm/syncer/identity/claims"
)

// directory is where the package's units look for the bundle.
const directory = "/etc/meshvm"

// needs is what a Corefile names.
type needs struct {
	authorities, credentials, keys, tokens, upstreams []string
}

// upstreamsFolder is made by the redirect, before CoreDNS starts.
const upstreamsFolder = "/run/meshvm-redirect/"

// Check reports what would keep CoreDNS from starting with the bundle on a machine, or a syncer from letting it in: all of
// it, a line each.
func (m Machine) Check(b Bundle, now time.Time) error {
	content, ok := b[corefileName]
	if !ok {
		return fmt.Errorf("the bundle has no %s: want the folder that meshvmctl bootstrap wrote, in whole", corefileName)
	}
	options, err := parse(string(content))
	if err != nil {
		return fmt.Errorf("the bundle's Corefile: %w", err)
	}
	named, err := named(options)
	if err != nil {
		return fmt.Errorf("the bundle's Corefile: %w", err)
	}
	var faults []error
	check := func(what string, files []string, look func([]byte) error) {
		for _, file := range files {
			content, err := m.content(b, file)
			if err == nil {
				err = look(content)
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("%s %s, which the Corefile names: %w", what, file, err))
			}
		}
	}
	check("the authority", named.authorities, func(c []byte) error { return checkCertificates(c, now) })
	check("the certificate", named.credentials, func(c []byte) error { return checkCertificates(c, now) })
	check("the key", named.keys, checkKey)
	check("the token", named.tokens, func(c []byte) error { return checkToken(c, now) })
	check("the list of resolvers", named.upstreams, checkNotEmpty)
	return errors.Join(faults...)
}

// named finds what the Corefile names.
func named(options []option) (needs, error) {
	var n needs
	meshvm, syncer := false, false
	add := func(to *[]string, files ...string) {
		for _, file := range files {
			// What the environment says is known to the unit only.
			if !strings.Contains(file, "{$") && !strings.Contains(file, "{%") && !slices.Contains(*to, file) {
				*to = append(*to, file)
			}
		}
	}
	for _, o := range options {
		arguments := o.words[1:]
		switch {
		case o.depth == 1 && o.words[0] == "meshvm":
			meshvm = true
		case o.depth == 1 && o.words[0] == "forward" && len(arguments) > 1:
			for _, to := range arguments[1:] {
				if filepath.IsAbs(to) && !strings.HasPrefix(to, upstreamsFolder) {
					add(&n.upstreams, to)
				}
			}
		case o.depth != 2 || o.in != "meshvm":
		case o.words[0] == "syncer":
			syncer = true
		case o.words[0] == "token" && len(arguments) == 1:
			add(&n.tokens, arguments[0])
		case o.words[0] == "tls":
			switch len(arguments) {
			case 1:
				add(&n.authorities, arguments[0])
			case 3:
				add(&n.authorities, arguments[2])
				fallthrough
			case 2:
				add(&n.credentials, arguments[0])
				add(&n.keys, arguments[1])
			}
		}
	}
	switch {
	case !meshvm:
		return n, errors.New("no server block has the plugin meshvm")
	case !syncer:
		return n, errors.New("meshvm has no syncer to follow")
	}
	return n, nil
}

// content is a file as it will be: of the bundle, or on the machine.
func (m Machine) content(b Bundle, file string) ([]byte, error) {
	if !filepath.IsAbs(file) {
		return nil, errors.New("want an absolute path")
	}
	if filepath.Dir(file) == directory {
		if content, ok := b[filepath.Base(file)]; ok {
			return content, nil
		}
	}
	info, err := os.Stat(m.path(file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("it is neither in the bundle nor on this machine")
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return nil, fmt.Errorf("it is not a regular file of at most %d bytes", maxFile)
	}
	return os.ReadFile(m.path(file))
}

func checkCertificates(content []byte, now time.Time) error {
	count, good := 0, 0
	var last *x509.Certificate
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		count++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", count, err)
		}
		if last = certificate; now.Before(certificate.NotAfter) {
			good++
		}
	}
	switch {
	case count == 0:
		return errors.New("there is no PEM certificate in it")
	case good == 0:
		return fmt.Errorf("it ended at %s: make the bundle again", last.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func checkKey(content []byte) error {
	if block, _ := pem.Decode(content); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return errors.New("there is no PEM private key in it")
	}
	return nil
}

func checkToken(content []byte, now time.Time) error {
	said, err := claims.Unverified(string(bytes.TrimSpace(content)))
	if err != nil {
		return err
	}
	if !said.Expires.IsZero() && !now.Before(said.Expires) {
		return fmt.Errorf("it ended at %s: make another with meshvmctl token, where you have the cluster", said.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

func checkNotEmpty(content []byte) error {
	if len(bytes.TrimSpace(content)) == 0 {
		return errors.New("it is empty")
	}
	return nil
}
