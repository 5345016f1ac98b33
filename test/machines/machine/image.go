package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// kernelScript extracts Debian's kernel for clouds, and makes an initial file system that mounts the disk. The folder then has
// kernel and initramfs.
const kernelScript = `
folder=$1
cd "$folder"
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^  Depends: \(linux-image-.*-cloud-amd64\)$/\1/p' | head -1)
chmod 777 .
apt-get -qq download "$package"
dpkg-deb -x ./*.deb package
rm ./*.deb
chmod 755 .
version=${package#linux-image-}
[ -d package/lib/modules ] || ln -s usr/lib package/lib
depmod -b package "$version"
mv "package/boot/vmlinuz-$version" kernel
mkdir -p tree/bin tree/modules tree/disk tree/proc tree/dev
cp /bin/busybox tree/bin/busybox
ln -s busybox tree/bin/sh
order=tree/modules/order
: >"$order"
for module in virtio_pci virtio_blk virtio_console virtio_net ext4 nf_tables; do
	modprobe -d package -S "$version" --show-depends "$module" | while read -r what path rest; do
		[ "$what" = insmod ] || continue
		name=$(basename "$path")
		[ -e "tree/modules/$name" ] || { cp "$path" tree/modules/; echo "$name" >>"$order"; }
	done
done
cat >tree/init <<'INIT'
#!/bin/sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
while read -r name; do /bin/busybox insmod "/modules/$name"; done </modules/order
/bin/busybox mount -t ext4 /dev/vda /disk || exec /bin/sh
/bin/busybox umount /proc
/bin/busybox mount -o move /dev /disk/dev
exec /bin/busybox switch_root /disk /sbin/init
INIT
chmod 755 tree/init
(cd tree && find . | cpio --quiet -o -H newc | gzip -1) >initramfs
rm -rf package tree
`

// imageScript makes the disk of a machine of layers, with a shell on a port that the host has the other end of.
const imageScript = `
lower=$1 image=$2 work=$3
mkdir "$work/upper" "$work/work" "$work/merged"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$work/merged"
root=$work/merged
cat >"$root/usr/local/sbin/port" <<'PORT'
#!/bin/sh
# Runs what comes in as a line of base64, and answers with its exit code and what it wrote.
exec 3<>/dev/vport1p1
while IFS= read -r script <&3; do
	code=0
	printf %s "$script" | base64 -d >/run/script
	output=$(sh -euc ". /run/script" 2>&1 </dev/null 3<&-) || code=$?
	printf '%s %s\n' "$code" "$(printf %s "$output" | base64 -w 0)" >&3
done
PORT
chmod 755 "$root/usr/local/sbin/port"
cat >"$root/etc/systemd/system/port.service" <<'UNIT'
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
[Service]
Environment=HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/usr/local/sbin/port
Restart=always
[Install]
WantedBy=sysinit.target
UNIT
ln -s ../port.service "$root/etc/systemd/system/sysinit.target.wants/port.service" 2>/dev/null ||
	{ mkdir -p "$root/etc/systemd/system/sysinit.target.wants" && ln -s ../port.service "$root/etc/systemd/system/sysinit.target.wants/port.service"; }
ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
echo "/dev/vda / ext4 defaults 0 0" >"$root/etc/fstab"
mke2fs -q -t ext4 -O ^metadata_csum_seed,^orphan_file -d "$root" "$image" 2G 2>&1 || mke2fs -q -t ext4 -d "$root" "$image" 2G
`

// Images builds what QEMU boots of a setup, if it is not there yet. Roots comes first.
func Images(ctx context.Context, setup Setup) error {
	kernel, image, err := imagePaths(setup)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(kernel), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("wait for another build of images: %w", err)
	}
	if err := once(kernel, func(temporary string) error {
		_, err := shell(ctx, kernelScript, temporary)
		return err
	}); err != nil {
		return fmt.Errorf("make a kernel: %w", err)
	}
	root, err := rootOf(setup)
	if err != nil {
		return err
	}
	if err := once(image, func(temporary string) error {
		work, err := os.MkdirTemp(filepath.Dir(image), "work")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		_, err = shell(ctx, `exec unshare --mount --propagation private /bin/sh -euc "$@"`, imageScript, "sh",
			strings.Join(root.layers, ":"), filepath.Join(temporary, "disk"), work)
		return err
	}); err != nil {
		return fmt.Errorf("make a disk of setup %s: %w", setup.Name, err)
	}
	return nil
}

func imagePaths(setup Setup) (kernel, image string, err error) {
	folder, err := rootsFolder()
	return filepath.Join(folder, "kernel-"+digest(kernelScript)), filepath.Join(folder, "image-"+digest(imageScript, layerPath(folder, setup))), err
}
