# vaultdrive for the yardstick: put a copy into its folder of contestants.
# The yardstick writes into the root of the mount, so one asset is the whole
# mount; the device key file makes mounting cost no password hash. WRITE is the
# format of contents, as init --write takes it.
WRITE=${WRITE:-auto}
drive()     { XDG_RUNTIME_DIR="$STATE" vaultdrive "$@"; }
version()   { need vaultdrive && vaultdrive --version | sed "1s/\$/, write=$WRITE/"; }
create() {
  password
  drive init --vault "$STORE/vault" --password-file "$STATE/pw" --write "$WRITE"
  drive asset add --vault "$STORE/vault" --password-file "$STATE/pw" bench
  drive device enroll --vault "$STORE/vault" --password-file "$STATE/pw" --device-key "$STATE/device.key"
}
mount_cmd() {
  CMD=(env XDG_RUNTIME_DIR="$STATE" vaultdrive mount --foreground --asset bench
    --vault "$STORE/vault" --device-key "$STATE/device.key" "$MNT")
}
