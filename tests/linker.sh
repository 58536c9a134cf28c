# Installs a C linker on Debian if there is none; for scripts to source from the top folder.
if ! command -v cc >/dev/null 2>&1; then
    sudo=$(command -v sudo || true)
    echo 'installing gcc, which links Rust programs'
    { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y gcc libc6-dev; } >/dev/null 2>&1 || {
        echo 'there is no C linker (cc), and apt-get could not install gcc' >&2
        exit 1
    }
fi
