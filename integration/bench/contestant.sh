# vaultdrive for the yardstick: put a copy into its folder of contestants.
# The yardstick writes into the root of the mount, so one asset is the whole
# mount; the device key file makes mounting cost no password hash.
drive()     { XDG_RUNTIME_DIR="$STATE" vaultdrive "$@"; }
version()   { need vaultdrive && vaultdrive --version; }
create() {
  password
  drive init --vault "$STORE/vault" --password-file "$STATE/pw"
  drive asset add --vault "$STORE/vault" --password-file "$STATE/pw" bench
  drive device enroll --vault "$STORE/vault" --password-file "$STATE/pw" --device-key "$STATE/device.key"
}
mount_cmd() {
  CMD=(env XDG_RUNTIME_DIR="$STATE" vaultdrive mount --foreground --asset bench
    --vault "$STORE/vault" --device-key "$STATE/device.key" "$MNT")
}
