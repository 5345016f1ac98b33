package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// mirror is where Debian's packages come from, unless DEBIAN_MIRROR says otherwise.
const mirror = "http://deb.debian.org/debian"

// everywhere is what every machine has.
var everywhere = []string{"systemd", "systemd-sysv", "dbus", "iproute2", "procps", "kmod", "nftables", "netbase"}

// baseScript makes a file system of a release with what every machine has, and keeps the packages of the setups in apt's cache: from
// here on nobody needs the network. A mirror may be older than the release says it is good for. Units that write to disk at a time of their own would make one machine unlike the next.
const baseScript = `
root=$1 release=$2 from=$3 packages=$4
shift 4
mmdebstrap --quiet --mode=root --variant=minbase --aptopt='APT::Install-Recommends "false"' \
	--aptopt='Acquire::Check-Valid-Until "false"' --include="$packages" \
	--skip=cleanup/apt --skip=cleanup/reproducible "$release" "$root" "$from"
[ -e "$root/etc/resolv.conf" ] || cat /etc/resolv.conf >"$root/etc/resolv.conf"
for group; do
	chroot "$root" apt-get -qq -y --no-install-recommends --download-only install $group
done
echo vm >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 vm\n::1 localhost\n' >"$root/etc/hosts"
echo 5d0e5a1ed0c84a1c9d2e3f4a5b6c7d8e >"$root/etc/machine-id"
rm -f "$root/etc/resolv.conf"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer systemd-tmpfiles-clean.timer e2scrub_all.timer fstrim.timer \
	console-getty.service getty@tty1.service systemd-udevd.service systemd-networkd-wait-online.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/var/log/journal"
`

// layerScript installs a setup on a base. What it changes is in the folder upper.
const layerScript = `
base=$1 upper=$2 work=$3 root=$4 packages=$5 script=$6
mount -t overlay overlay -o "lowerdir=$base,upperdir=$upper,workdir=$work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --bind /dev "$root/dev"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
chroot "$root" apt-get -q -y --no-install-recommends --no-download -o Dpkg::Use-Pty=0 install $packages
rm "$root/usr/sbin/policy-rc.d"
chroot "$root" /bin/sh -euc "$script"
rm -f "$root"/var/cache/apt/*.bin
`

// root is the file system of a setup: layers of which the first hides the next.
type root struct{ layers []string }

// Roots builds the file systems of setups which are not there yet, below a folder that outlives the test. Each is named after what
// it is made of. It needs the network, and is to be called outside the sandbox.
func Roots(ctx context.Context, setups []Setup) error {
	folder, err := rootsFolder()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // programs of machines that are not root's read below it
		return err
	}
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("wait for another build of roots: %w", err)
	}
	for _, setup := range setups {
		base := basePath(folder, setup.Release)
		if err := once(base, func(temporary string) error { return buildBase(ctx, temporary, setup.Release) }); err != nil {
			return fmt.Errorf("build a root of %s: %w", setup.Release, err)
		}
		layer := layerPath(folder, setup)
		if err := once(layer, func(temporary string) error { return buildLayer(ctx, base, temporary, setup) }); err != nil {
			return fmt.Errorf("build the root of setup %s: %w", setup.Name, err)
		}
	}
	return nil
}

// once makes a folder that is there in whole or not at all.
func once(path string, build func(temporary string) error) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temporary := path + ".tmp"
	if err := os.RemoveAll(temporary); err != nil {
		return err
	}
	if err := os.Mkdir(temporary, 0o755); err != nil { //nolint:gosec // it is the / of a machine
		return err
	}
	if err := build(temporary); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func buildBase(ctx context.Context, path string, release Release) error {
	from := os.Getenv("DEBIAN_MIRROR")
	if from == "" {
		from = mirror
	}
	args := []string{path, string(release), from, strings.Join(everywhere, ",")}
	_, err := shell(ctx, baseScript, append(args, groups(release)...)...)
	return err
}

// groups are the packages of the setups of a release, those of a setup in one string.
func groups(release Release) []string {
	var groups []string
	for _, setup := range All() {
		if group := strings.Join(setup.Packages, " "); setup.Release == release && !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}

func buildLayer(ctx context.Context, base, upper string, setup Setup) error {
	work, err := os.MkdirTemp(filepath.Dir(upper), "work")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	merged := filepath.Join(work, "merged")
	if err := os.Mkdir(merged, 0o755); err != nil { //nolint:gosec // a mount point
		return err
	}
	if err := os.Mkdir(filepath.Join(work, "work"), 0o700); err != nil {
		return err
	}
	// In a mount namespace of its own, so that nothing stays mounted whatever fails.
	_, err = shell(ctx, `exec unshare --mount --propagation private /bin/sh -euc "$@"`, layerScript, "sh",
		base, upper, filepath.Join(work, "work"), merged, strings.Join(setup.Packages, " "), setup.Script)
	return err
}

func rootsFolder() (string, error) {
	repository, err := Repository()
	if err != nil {
		return "", err
	}
	folder, err := filepath.EvalSymlinks(filepath.Join(repository, "bin", "test"))
	if errors.Is(err, fs.ErrNotExist) {
		folder, err = filepath.Join(repository, "bin", "test"), nil
	}
	return filepath.Join(folder, "roots"), err
}

func basePath(folder string, release Release) string {
	parts := append([]string{baseScript, string(release), strings.Join(everywhere, " ")}, groups(release)...)
	return filepath.Join(folder, string(release)+"-"+digest(parts...))
}

func layerPath(folder string, setup Setup) string {
	parts := append([]string{filepath.Base(basePath(folder, setup.Release)), layerScript, setup.Script}, setup.Packages...)
	return filepath.Join(folder, setup.Name+"-"+digest(parts...))
}

func digest(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d %s\n", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12]
}

func rootOf(setup Setup) (root, error) {
	folder, err := rootsFolder()
	if err != nil {
		return root{}, err
	}
	r := root{layers: []string{layerPath(folder, setup), basePath(folder, setup.Release)}}
	for _, layer := range r.layers {
		if _, err := os.Stat(layer); err != nil {
			return root{}, fmt.Errorf("the root of setup %s was not built: %w", setup.Name, err)
		}
	}
	return r, nil
}
