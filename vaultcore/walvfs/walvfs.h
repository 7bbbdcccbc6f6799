#ifndef WALVFS_H
#define WALVFS_H

/* The name to open databases with. */
#define WALVFS_NAME "vaultdrive-wal"

/* walvfsRegister makes the VFS known, once; anything but 0 is SQLite's error. */
int walvfsRegister(void);

#endif
