# vaultdrive with version 4 contents of every size: put a copy beside that of
# contestant.sh, as vaultdrive-v4.sh beside vaultdrive.sh.
WRITE=v4
. "$BENCH_DIR/contestants/vaultdrive.sh"
