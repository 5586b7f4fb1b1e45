#!/usr/bin/env bash
# Prepares a 64-bit ARM Python with edgeattn's base dependencies, to run under qemu's user-mode emulation.
# usage: tests/aarch64.sh FOLDER     needs Debian's apt and, once, root to install qemu-user-static
set -euo pipefail
folder=${1:?usage: tests/aarch64.sh FOLDER}
[ -f "$folder/ready" ] && exit 0
mkdir -p "$folder/debs" "$folder/root" "$folder/site"
folder=$(cd "$folder" && pwd)
exec 9> "$folder/lock"
flock 9 # two test workers may come at once
[ -f "$folder/ready" ] && exit 0

command -v qemu-aarch64-static >/dev/null || { apt-get update -qq && apt-get install -y -qq qemu-user-static; } >/dev/null

# apt's own lists stay as they are: the foreign architecture is known only to these lists.
mkdir -p "$folder/lists/partial"
options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$folder/lists" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -qq
(cd "$folder/debs" && apt-get "${options[@]}" download -qq libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 \
  liblzma5 libsqlite3-0 libuuid1 libcrypt1 python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib)
for deb in "$folder"/debs/*.deb; do dpkg-deb -x "$deb" "$folder/root"; done

# onnxruntime 1.22: newer ones read the host's CPU caches at start, which the emulator does not have.
python3 -m pip download -q --no-deps -d "$folder/wheels" --only-binary=:all: --python-version 311 --implementation cp \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
  numpy==2.4.6 onnxruntime==1.22.1 msgspec==0.22.0 safetensors==0.8.0 pyyaml==6.0.3 psutil==7.2.2 click==8.5.1 rich==15.0.0 \
  protobuf==7.36.2 flatbuffers packaging coloredlogs humanfriendly markdown-it-py mdurl pygments sympy mpmath
for wheel in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$folder/site"; done
touch "$folder/ready"
