#!/bin/sh
# Check for the system libraries of rendering; install the packages named as arguments when they are
# missing and we are root, otherwise print the command.
missing=""
for library in libEGL.so.1 libGL.so.1 libgomp.so.1; do
    ldconfig -p 2>/dev/null | grep -q "$library" || missing="$missing $library"
done
# Mesa's software driver has no library of its own name that is stable across releases: look for the EGL vendor file
[ -e /usr/share/glvnd/egl_vendor.d/50_mesa.json ] || ls /usr/share/glvnd/egl_vendor.d/*.json >/dev/null 2>&1 || missing="$missing egl-vendor"
[ -z "$missing" ] && exit 0

command="apt-get install -y --no-install-recommends $*"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing system libraries:$missing. Install what your system calls: $*" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Missing system libraries:$missing. Type: sudo apt-get update && sudo $command" >&2
    exit 1
fi
apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command
