#!/bin/bash
# Runs cloud-init twice on user data, in a copy of this machine's files that is gone afterwards, without a network.
# Called inside `unshare --mount --net`, as root. $1: folder with user-data; results are written into it.
set -euo pipefail
given=$(realpath "$1")
work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
mkdir "$work/changes" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/changes,workdir=$work/work" "$work/root"
root=$work/root
for folder in dev run tmp sys; do mount -t tmpfs tmpfs "$root/$folder"; done
mount -t proc proc "$root/proc"
for device in null zero random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done

mkdir -p "$root/var/lib/cloud/seed/nocloud"
rm -rf "$root/var/lib/cloud/instance" "$root/var/lib/cloud/instances" "$root/var/lib/cloud/sem" "$root/var/lib/cloud/data"
cp "$given/user-data" "$root/var/lib/cloud/seed/nocloud/user-data"
echo "instance-id: i-0123456789abcdef0" >"$root/var/lib/cloud/seed/nocloud/meta-data"
# What works offline and touches no disk: not packages and swap.
cat >"$root/etc/cloud/cloud.cfg.d/99-tests.cfg" <<'CONFIG'
datasource_list: [NoCloud]
network: {config: disabled}
cloud_init_modules: [write-files, users-groups]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
CONFIG
# The units of what the packages would have brought.
printf '[Service]\nExecStart=/bin/true\n' >"$root/etc/systemd/system/docker.service"
printf '#!/bin/sh\n' >"$root/usr/local/bin/minikube"
chmod +x "$root/usr/local/bin/minikube"

first_boot() {
  rm -rf "$root"/var/lib/cloud/instance/sem "$root"/var/lib/cloud/instances/*/sem "$root"/var/lib/cloud/sem
  for stage in "init --local" init "modules --mode=config" "modules --mode=final"; do
    # shellcheck disable=SC2086
    SYSTEMD_OFFLINE=1 chroot "$root" cloud-init $stage >>"$given/cloud-init.log" 2>&1
  done
}
listing() { # mode, owner, name, link or digest of all that changed, but for backups, and cloud-init's own files with a date in them
  cd "$work/changes"
  find etc usr home -not -path 'etc/*-' -not -path 'etc/cloud/*' -not -path 'etc/sudoers.d/*' \
    \( -type l -printf '%m %U %G %p -> %l\n' -o -type d -printf '%m %U %G %p\n' \
    -o -type f -printf '%m %U %G ' -exec sha256sum {} \; \) | sort
  cd - >/dev/null
}
first_boot
listing >"$given/after-first"
first_boot
listing >"$given/after-second"
chroot "$root" id healthpredict >"$given/user"
chroot "$root" getent passwd healthpredict >>"$given/user"
# Every unit with its order and its commands, as systemd would load it.
units=("$root"/etc/systemd/system/health-predict*)
chroot "$root" systemd-analyze verify --man=no "${units[@]#"$root"}" >"$given/verify" 2>&1 || echo "exit $?" >>"$given/verify"
