package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// packages is where packages.sh puts them, below the repository.
const packages = "bin/machines"

// Versions of the package that tests install. Newer is built of the same sources.
const (
	Current = "current"
	Newer   = "newer"
)

// Formats of packages.
const (
	deb = "deb"
	rpm = "rpm"
)

// find finds the package of a version.
func find(version, format string) (string, error) {
	repository, err := Repository()
	if err != nil {
		return "", err
	}
	pattern := filepath.Join(repository, packages, version, "*."+format)
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%s: got %d packages, want one: run test/machines/packages.sh", pattern, len(found))
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// PackageFile is the file of a version of the package, in a format: deb or rpm.
func PackageFile(tb testing.TB, version, format string) string {
	tb.Helper()
	path, err := find(version, format)
	check(tb, err)
	return path
}

// give copies a package to where the machine finds it, and returns its path there.
func (m *Machine) give(version, format string) string {
	m.tb.Helper()
	from, err := find(version, format)
	check(m.tb, err)
	to := filepath.Join(m.Shared, filepath.Base(from))
	if err := os.Link(from, to); errors.Is(err, os.ErrExist) {
		return filepath.Join(Shared, filepath.Base(to))
	} else if err != nil {
		content, err := os.ReadFile(from)
		check(m.tb, err)
		check(m.tb, os.WriteFile(to, content, 0o644)) //nolint:gosec // apt's user reads it
	}
	return filepath.Join(Shared, filepath.Base(to))
}

// Install installs a version of the package, as an operator does.
func (m *Machine) Install(version string) {
	m.tb.Helper()
	m.Run("apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 install " + m.give(version, deb))
}

// InstallRPM installs or upgrades to a version of the package with rpm, which on Debian knows no dependency.
func (m *Machine) InstallRPM(version string) {
	m.tb.Helper()
	m.Run("rpm --upgrade --nodeps " + m.give(version, rpm))
}

// Join has the machine join the mesh of its site with a bundle of its own, by one command, and returns what that said.
func (m *Machine) Join() string {
	m.tb.Helper()
	m.site.Bundle(filepath.Join(m.Shared, "bundle"))
	return m.Run("meshvmctl join " + Shared + "/bundle")
}

// JoinByHand is Join without the redirect: only CoreDNS runs, and the machine goes on asking whom it asked.
func (m *Machine) JoinByHand() {
	m.tb.Helper()
	m.site.Bundle(filepath.Join(m.Shared, "bundle"))
	m.Run(`
mkdir -p /run/meshvm-redirect
echo nameserver ` + Router + ` >/run/meshvm-redirect/resolv.conf
cp ` + Shared + `/bundle/Corefile ` + Shared + `/bundle/ca.pem /etc/meshvm/
install -m 640 -g meshvm ` + Shared + `/bundle/token /etc/meshvm/token
chmod 644 /etc/meshvm/Corefile /etc/meshvm/ca.pem
sed -i 's#/etc/meshvm/resolv.conf#/run/meshvm-redirect/resolv.conf#' /etc/meshvm/Corefile
systemctl start meshvm.service
`)
}
