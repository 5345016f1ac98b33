package watch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Config says which syncers to follow and as whom. The connection is TLS unless Insecure is set.
type Config struct {
	// Addresses of syncers that serve the same registry, host:port. At least one.
	Addresses []string
	// TLS names the files of the connection. The zero value trusts the system's certificate authorities.
	TLS TLSFiles
	// ServerName is the name, or the SPIFFE ID, expected in a syncer's certificate. Empty: the host of its address.
	ServerName string
	// TokenFile holds a bearer token. It is read for every connection, and looked at every second. Empty: no token is
	// sent.
	TokenFile string
	// Insecure is plaintext. Every address must then be on loopback: a literal address or `localhost`.
	Insecure bool
	// Namespace is the VM's own. It counts only where no identity says otherwise.
	Namespace string
	// Node and Version are for people: the VM's name and that of the software on it.
	Node, Version string
}

// TLSFiles are PEM files. They are read again for every connection, and looked at every second, so that they may be
// rotated.
type TLSFiles struct {
	// CertFile and KeyFile are the client's certificate chain and key: both or none.
	CertFile, KeyFile string
	// CAFile holds the certificate authorities that a syncer's certificate must come from. Empty: the
	// system's.
	CAFile string
}

// check reports what is wrong with a Config, files aside.
func (c Config) check() error {
	if len(c.Addresses) == 0 {
		return errors.New("no syncer address")
	}
	for _, address := range c.Addresses {
		if err := checkAddress(address); err != nil {
			return err
		}
	}
	if IsSPIFFEID(c.ServerName) {
		if err := CheckSPIFFEID(c.ServerName); err != nil {
			return err
		}
	}
	if !c.Insecure {
		return nil
	}
	if c.TLS != (TLSFiles{}) || c.ServerName != "" {
		return errors.New("insecure and TLS settings exclude each other")
	}
	for _, address := range c.Addresses {
		if !OnLoopback(address) {
			return fmt.Errorf("insecure is for loopback only, and syncer address %q is not a loopback IP or localhost", address)
		}
	}
	return nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("syncer address %q is not host:port: %w", address, err)
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n/") {
		return fmt.Errorf("syncer address %q: %q is no host", address, host)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("syncer address %q: port %q is not a number from 1 to 65535", address, port)
	}
	return nil
}

// OnLoopback reports whether an address, host:port, can only be this machine: a literal loopback IP, or
// localhost (RFC 6761, section 6.3). Only there is plaintext allowed.
func OnLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// distinct is the addresses in order, each once.
func distinct(addresses []string) []string {
	kept := make([]string, 0, len(addresses))
	for _, address := range addresses {
		if !slices.Contains(kept, address) {
			kept = append(kept, address)
		}
	}
	return kept
}
